"""What one model's callers feel of what happens to another: quiet times and troubled ones in turns."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import msgspec
from scipy.stats import binom

from loadtests.chaos.open_loop import OpenLoop, percentile, took_ms
from loadtests.chaos.stage import while_loaded

LOOK_PAUSE_S = 0.25
"""Between two looks, each of which is answered by the very worker that is watched."""

_CONFIDENCE = 0.95


class Span(NamedTuple):
    """By `time.monotonic`."""

    from_s: float
    to_s: float


class Comparison(msgspec.Struct, frozen=True):
    """The load, and when it was watched: each troubled time is between two quiet ones."""

    load: OpenLoop
    quiet: Sequence[Span]
    troubled: Sequence[Span]

    @property
    def ratios(self) -> list[float]:
        """How many times as much the p99 was in each troubled time as in the quiet ones before and after it.

        As in both, because what the machine has to spare comes and goes by the minute.
        """
        around_ms = [math.sqrt(before * after) for before, after in pairwise(self._p99s_ms(self.quiet))]
        return [p99_ms / quiet_ms for p99_ms, quiet_ms in zip(self._p99s_ms(self.troubled), around_ms, strict=True)]

    @property
    def p99_ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)

    @property
    def noise(self) -> float:
        """How many times as much the p99 was in one quiet time as in the next: what a ratio may be of nothing."""
        return median(max(pair) / min(pair) for pair in pairwise(self._p99s_ms(self.quiet)))

    def words(self) -> str:
        low, high = median_interval(self.ratios)
        return (
            f"neighbour at {self.load.rate_per_s:.0f} requests/s: p99 {median(self._p99s_ms(self.quiet)):.1f} ms in "
            f"quiet times, {median(self._p99s_ms(self.troubled)):.1f} in troubled ones: {self.p99_ratio:.2f} x "
            f"({low:.2f} to {high:.2f} by {len(self.troubled)} rounds; quiet times differ {self.noise:.2f} x)"
        )

    def _p99s_ms(self, spans: Sequence[Span]) -> list[float]:
        outcomes = self.load.outcomes
        return [
            percentile(took_ms([o for o in outcomes if span.from_s <= o.began_s < span.to_s]), 99) for span in spans
        ]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which of *values* the median is that they were drawn around, with 95 % of confidence.

    Order statistics, so nothing is said of how they are spread; of fewer than six no two are far enough apart.
    """
    ordered, count = sorted(values), len(values)
    outer = int(binom.ppf((1 - _CONFIDENCE) / 2, count, 0.5))
    if outer == 0:
        return -math.inf, math.inf
    return ordered[outer - 1], ordered[count - outer]


def compare(
    load: OpenLoop,
    trouble: Callable[[], None],
    *,
    rounds: int,
    phase_s: float,
    afterwards: Callable[[], None] = lambda: None,
    look: Callable[[], object] = lambda: None,
) -> Comparison:
    """Watch *load* for *phase_s*, then during *trouble*, for *phase_s* at least, and so on; at last in quiet again.

    What goes on while *afterwards* puts things back is in neither. Where *trouble* looks at the server now and then,
    *look* does so in quiet times as well, since each look costs what is watched.
    """

    def watch(what: Callable[[], None] = lambda: None) -> Span:
        from_s = time.monotonic()
        what()
        _pass(from_s + phase_s, look)
        return Span(from_s, time.monotonic())

    def play() -> Comparison:
        quiet, troubled = [watch()], []
        for _ in range(rounds):
            troubled.append(watch(trouble))
            afterwards()
            quiet.append(watch())
        return Comparison(load, quiet, troubled)

    return while_loaded([load], play)


def _pass(until_s: float, look: Callable[[], object]) -> None:
    while (left_s := until_s - time.monotonic()) > 0:
        look()
        time.sleep(min(LOOK_PAUSE_S, left_s))
