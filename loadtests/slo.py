"""What a load test observed, and whether that is good enough."""

import math
from array import array
from collections import Counter

import msgspec

# Messages may quote a body, so that each of a million failures could be a kind of its own.
_KINDS_OF_FAILURE_MAX = 100


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """The promise that a load test holds the server to."""

    p99_ms: float
    failure_ratio: float


class Observations:
    """Everything that is kept of a run: eight bytes for each request, and counts."""

    def __init__(self) -> None:
        # Locust's own statistics round to whole milliseconds, which is all that a small model takes.
        self.latencies_ms = array("d")
        self.arms: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def add_answer(self, latency_ms: float) -> None:
        self.latencies_ms.append(latency_ms)

    def add_assignment(self, *, arm: str, version: str) -> None:
        """Count which arm a request of no unit was given.

        Those of a unit would bend the shares: a user whose arm is quick asks it more often than the others ask theirs.
        """
        self.arms[arm] += 1
        self.versions[version] += 1

    def add_failure(self, latency_ms: float, what: str) -> None:
        self.latencies_ms.append(latency_ms)
        known = what in self.failures or len(self.failures) < _KINDS_OF_FAILURE_MAX
        self.failures[what if known else "other failures"] += 1

    @property
    def requests(self) -> int:
        return len(self.latencies_ms)

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def failure_ratio(self) -> float:
        return self.failed / self.requests if self.requests else 0.0

    def percentile_ms(self, percent: float) -> float:
        """The latency that *percent* of the requests did not exceed (nearest rank); NaN if there were none."""
        if not self.requests:
            return math.nan
        rank = max(1, math.ceil(self.requests * percent / 100))
        return sorted(self.latencies_ms)[rank - 1]


def breaches(observations: Observations, slo: Slo) -> list[str]:
    """Say what of *slo* was not kept, a sentence each; an empty list means that all of it was."""
    if not observations.requests:
        # A percentile of nothing would pass any comparison.
        return ["no request was answered, so nothing was measured"]
    found = []
    p99_ms = observations.percentile_ms(99)
    if p99_ms > slo.p99_ms:
        found.append(f"p99 is {p99_ms:.1f} ms, the SLO allows {slo.p99_ms:g} ms")
    if observations.failure_ratio > slo.failure_ratio:
        found.append(
            f"{observations.failed} of {observations.requests} requests failed ({observations.failure_ratio:.3%}), "
            f"the SLO allows {slo.failure_ratio:.3%}"
        )
    return found


def report(observations: Observations, duration_s: float) -> str:
    """The figures of a run as a person reads them."""
    lines = [
        f"requests   {observations.requests}  ({observations.requests / duration_s:.0f}/s over {duration_s:.1f} s)",
        f"failures   {observations.failed}  ({observations.failure_ratio:.3%})",
        "latency    "
        + "  ".join(f"p{percent} {observations.percentile_ms(percent):.1f} ms" for percent in (50, 95, 99)),
        f"arms       {_shares(observations.arms)}",
        f"versions   {_shares(observations.versions)}",
    ]
    lines += [f"  {count:>6} x {what}" for what, count in observations.failures.most_common(10)]
    return "\n".join(lines)


def _shares(counts: Counter[str]) -> str:
    total = counts.total()
    return "  ".join(f"{name} {count / total:.1%}" for name, count in counts.most_common()) or "none seen"
