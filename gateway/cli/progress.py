"""How far an operation is that takes its time: bars, or a line of words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text


class _Shown:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", visible=False)
        self._total = 0

    def begin(self, step: str, total: int | None = None) -> None:
        self._total = total or 0
        self._task = self._bars.add_task(step, total=total)

    def expect(self, more: int) -> None:
        self._total += more
        self._bars.update(self._task, total=self._total)

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)


@contextmanager
def shown_progress(console: Console) -> Iterator[_Shown]:
    """A bar for each step, on a terminal; elsewhere nothing but the bars as they stood at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console) as bars:
        yield _Shown(bars)


@contextmanager
def live_line(console: Console) -> Iterator[Callable[[str], None]]:
    """A line below what is printed, which changes, on a terminal, and is gone at the end; elsewhere nothing."""
    with Live(console=console, transient=True, auto_refresh=False) as live:
        # Folded by us, whatever the console does: what the terminal folds isn't wiped away whole.
        yield lambda line: live.update(Text(line, overflow="fold", no_wrap=False), refresh=True)
