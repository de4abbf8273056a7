"""What one model's callers feel of what happens to another: quiet times and troubled ones in turns."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import msgspec

from loadtests.chaos.open_loop import OpenLoop, percentile, took_ms
from loadtests.chaos.stage import while_loaded

LOOK_PAUSE_S = 0.25
"""Between two looks, each of which is answered by the very worker that is watched."""


class Round(NamedTuple):
    """A quiet time, and the troubled one that came right after it, by `time.monotonic`."""

    quiet_from_s: float
    troubled_from_s: float
    troubled_to_s: float


class Comparison(msgspec.Struct, frozen=True):
    """The load, and the rounds in which it was watched."""

    load: OpenLoop
    rounds: Sequence[Round]

    @property
    def p99_ratio(self) -> float:
        """How many times as much the p99 was in trouble: the median of the rounds."""
        return median(self._p99_ms(b, c) / self._p99_ms(a, b) for a, b, c in self.rounds)

    @property
    def noise(self) -> float:
        """How many times as much the p99 was in one quiet time as in the next: what a ratio may be of nothing."""
        quiet_ms = [self._p99_ms(a, b) for a, b, _ in self.rounds]
        return median([max(pair) / min(pair) for pair in pairwise(quiet_ms)] or [math.nan])

    def words(self) -> str:
        quiet_ms = median(self._p99_ms(a, b) for a, b, _ in self.rounds)
        troubled_ms = median(self._p99_ms(b, c) for _, b, c in self.rounds)
        return (
            f"neighbour at {self.load.rate_per_s:.0f} requests/s: p99 {quiet_ms:.1f} ms before, {troubled_ms:.1f} "
            f"meanwhile, {self.p99_ratio:.2f} x (median of {len(self.rounds)}; quiet times differ {self.noise:.2f} x)"
        )

    def _p99_ms(self, from_s: float, to_s: float) -> float:
        return percentile(took_ms([each for each in self.load.outcomes if from_s <= each.began_s < to_s]), 99)


def compare(
    load: OpenLoop,
    trouble: Callable[[], None],
    *,
    rounds: int,
    phase_s: float,
    afterwards: Callable[[], None] = lambda: None,
    look: Callable[[], object] = lambda: None,
) -> Comparison:
    """Watch *load* for *phase_s*, then during *trouble*, for *phase_s* at least, and so on.

    What goes on while *afterwards* puts things back is in neither. Where *trouble* looks at the server now and then,
    *look* does so in quiet times as well, since each look costs what is watched.
    """

    def play() -> list[Round]:
        played = []
        for _ in range(rounds):
            quiet_from_s = time.monotonic()
            _pass(quiet_from_s + phase_s, look)
            troubled_from_s = time.monotonic()
            trouble()
            _pass(troubled_from_s + phase_s, look)
            played.append(Round(quiet_from_s, troubled_from_s, time.monotonic()))
            afterwards()
        return played

    return Comparison(load, while_loaded([load], play))


def _pass(until_s: float, look: Callable[[], object]) -> None:
    while (left_s := until_s - time.monotonic()) > 0:
        look()
        time.sleep(min(LOOK_PAUSE_S, left_s))
