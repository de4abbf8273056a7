"""How users, tokens and keys are shown: as tables, with times as people read them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows*; the first column, which other verbs ask for, is whole however narrow the terminal is."""
    first, *others = columns
    table = Table(Column(first, no_wrap=True), *others, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, soft_wrap=True).print(table)


def day(at_ms: int | None, never: str = "never") -> str:
    """The day of *at_ms*, epoch milliseconds, in UTC."""
    return never if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
