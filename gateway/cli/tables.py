"""Tables as the verbs print them: no cell is cut short, and on its way to a program each row is one line."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

_AS_WIDE_AS_IT_TAKES = 10_000


def wide_console() -> Console:
    """As wide as the terminal is, or as COLUMNS says; else rows would be folded that `grep` is to find whole."""
    folds = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if folds else _AS_WIDE_AS_IT_TAKES)


def table(*columns: str) -> Table:
    """The first column, which other verbs ask for, is whole however narrow the terminal is; others are folded."""
    first, *others = columns
    folded = (Column(name, overflow="fold") for name in others)
    return Table(Column(first, no_wrap=True), *folded, box=None, pad_edge=False)


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows*, which are text and no markup."""
    shown = table(*columns)
    for row in rows:
        shown.add_row(*map(escape, row))
    wide_console().print(shown)


def day(at_ms: int | None, never: str = "never") -> str:
    """The day of *at_ms*, epoch milliseconds, in UTC."""
    return never if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
