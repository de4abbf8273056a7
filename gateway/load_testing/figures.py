"""What was seen of one version under load: eight bytes for each request while it runs, and figures at the end."""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

KINDS_OF_FAILURE_MAX = 20
POINTS_MAX = 600
"""Of the series over time; a longer test has wider ones."""
_FAILURE_LENGTH_MAX = 300


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One version's requests. Latencies are of all of them, failed or not; None if there were none."""

    version: int
    seconds: float
    """That it was asked for, which is less than the test took if another took turns with it."""
    requests: int
    failed: int
    failures: dict[str, int] = {}
    """By what was said, the most frequent first."""
    rps: float
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    processor_ms: float | None = None
    """Processor time in the version's own process, a request; None if it couldn't be read."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A moment of the test."""

    at_s: float
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float


class Observations:
    """Requests as they come in."""

    def __init__(self) -> None:
        # Locust's own statistics round to whole milliseconds, which is all that a small model takes.
        self.latencies_ms = array("d")
        self.failures: Counter[str] = Counter()
        self._ended_s = array("d")
        self._failed_at_s = array("d")

    def add(self, latency_ms: float, *, ended_s: float, failure: str | None = None) -> None:
        """Take note of a request that ended at *ended_s*, counted from the beginning of the test."""
        self.latencies_ms.append(latency_ms)
        self._ended_s.append(ended_s)
        if failure is not None:
            self._failed_at_s.append(ended_s)
            # Messages may quote a body, so that each of a million failures could be a kind of its own.
            what = failure[:_FAILURE_LENGTH_MAX]
            known = what in self.failures or len(self.failures) < KINDS_OF_FAILURE_MAX
            self.failures[what if known else "other failures"] += 1

    @property
    def requests(self) -> int:
        return len(self.latencies_ms)

    @property
    def failed(self) -> int:
        return self.failures.total()

    def figures(self, version: int, *, seconds: float, processor_s: float | None = None) -> Figures:
        ordered = sorted(self.latencies_ms)
        requests = len(ordered)
        latencies = (
            {
                "mean_ms": math.fsum(ordered) / requests,
                "max_ms": ordered[-1],
                **{f"p{percent}_ms": percentile(ordered, percent) for percent in (50, 90, 95, 99)},
            }
            if requests
            else {}
        )
        return Figures(
            version=version,
            seconds=seconds,
            requests=requests,
            failed=self.failed,
            failures=dict(self.failures.most_common()),
            rps=requests / seconds if seconds > 0 else 0.0,
            processor_ms=1000 * processor_s / requests if requests and processor_s is not None else None,
            **latencies,
        )

    def series(self, seconds: float) -> list[Point]:
        """Latencies over time, a point a second, or less often in a long test; moments without a request have none."""
        width_s = float(max(1, math.ceil(seconds / POINTS_MAX)))
        latencies: dict[int, list[float]] = defaultdict(list)
        for ended_s, latency_ms in zip(self._ended_s, self.latencies_ms, strict=True):
            latencies[int(ended_s / width_s)].append(latency_ms)
        failed = Counter(int(ended_s / width_s) for ended_s in self._failed_at_s)
        return [
            Point(
                at_s=place * width_s,
                requests=len(some),
                failed=failed[place],
                p50_ms=round(percentile(ordered := sorted(some), 50), 3),
                p99_ms=round(percentile(ordered, 99), 3),
            )
            for place, some in sorted(latencies.items())
        ]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """What *percent* of the values, which are in ascending order, don't exceed (nearest rank)."""
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]
