"""How often a rollout of a version that is no worse is stopped, in simulated days: nothing but functions of values.

Each day has 144 windows of ten minutes, and a look after each. Failures come in bursts and latency has its hours, on
both arms alike; units of a cluster resemble each other. Everything is drawn from a seed.
"""

import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.comparison.calibration import BINS, CalibrationSums
from gateway.comparison.distribution import Distribution
from gateway.comparison.evidence import Evidence
from gateway.comparison.latency_counts import BOUNDS_S, Counts, no_requests, quantile_s
from gateway.comparison.sums import CLASSES, CLUSTERS, NUMBERS, REWARDS, SERVING, Column, Floats
from gateway.rollouts.burn import burnt, kept, objectives_of, sample
from gateway.rollouts.decision import Finding, Standing
from gateway.rollouts.guard_findings import ALPHA, look, look_at_metric
from gateway.rollouts.guards import parse_guard
from registry.rollout_entities import Sample

SEED = 20_261_123
WINDOWS = 144
WINDOW_S = 600.0
SHARES = (0.01, 0.05, 0.25, 0.5)
"""Of the challenger, each for a quarter of the day."""
GUARDS = tuple(map(parse_guard, ("failures", "p99=1.2x")))
METRIC = "accuracy"
_ALPHA = ALPHA / (len(GUARDS) + 1)

_REQUESTS, _FAILURES = SERVING.index(Column.REQUESTS), SERVING.index(Column.FAILURES)
_LABELS, _CORRECT = CLASSES.index(Column.LABELS), CLASSES.index(Column.CORRECT)


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """A day like any other."""

    requests: int = 5_000
    """In a window."""
    failure_rate: float = 0.002
    burst: float = 0.7
    """How much the logarithm of that varies from window to window."""
    accuracy: float = 0.9
    labelled: float = 0.5
    likeness: float = 0.02
    """How much a cluster's accuracy varies."""


class Alarms(msgspec.Struct, frozen=True, kw_only=True):
    days: int
    windows: int
    stopped: int
    """Days on which a rollout would have been stopped while both arms had a share."""
    rolled_back: int
    """Days on which one would have been gone back from while the new champion was watched."""


class Day:
    """The sums of one day so far."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator) -> None:
        self._traffic, self._rng = traffic, rng
        self._accuracies = np.clip(rng.normal(traffic.accuracy, traffic.likeness, CLUSTERS), 0, 1)
        self.serving = np.zeros((len(SHARES), 2, len(SERVING), CLUSTERS))
        self.classes = np.zeros((len(SHARES), 2, len(CLASSES), CLUSTERS))
        self.latency = [no_requests(), no_requests()]

    def go_on(self, window: int) -> None:
        """One more window, of both arms."""
        period = window * len(SHARES) // WINDOWS
        rate = self._failure_rate()
        # A machine that is busy in the afternoon.
        scale = 0.01 * (1.3 + math.sin(2 * math.pi * window / WINDOWS))
        for arm, share in enumerate((1 - SHARES[period], SHARES[period])):
            asked = self._rng.binomial(self._traffic.requests, share)
            by_cluster = np.bincount(self._rng.integers(CLUSTERS, size=asked), minlength=CLUSTERS)
            labels = self._rng.binomial(by_cluster, self._traffic.labelled)
            self.serving[period, arm, _REQUESTS] += by_cluster
            self.serving[period, arm, _FAILURES] += self._rng.binomial(by_cluster, rate)
            self.classes[period, arm, _LABELS] += labels
            self.classes[period, arm, _CORRECT] += self._rng.binomial(labels, self._accuracies)
            self.latency[arm] += self._latencies(asked, scale)

    def _failure_rate(self) -> float:
        burst = self._traffic.burst
        return min(1.0, self._traffic.failure_rate * math.exp(burst * self._rng.standard_normal() - burst**2 / 2))

    def _latencies(self, asked: int, scale: float) -> Counts:
        seconds = scale * np.exp(0.5 * self._rng.standard_normal(asked))
        return np.bincount(np.searchsorted(BOUNDS_S, seconds), minlength=no_requests().size)

    def evidence(self, window: int) -> Evidence:
        begun = window * len(SHARES) // WINDOWS + 1
        nothing = np.zeros((4, CLUSTERS))
        empty = CalibrationSums(labels=np.zeros(BINS), probabilities=np.zeros(BINS), outcomes=np.zeros(BINS))
        return Evidence(
            champion=("champion", 1),
            challenger=("challenger", 2),
            periods=tuple(range(1, begun + 1)),
            sums={
                SERVING: [(period[0], period[1]) for period in self.serving[:begun]],
                CLASSES: [(period[0], period[1]) for period in self.classes[:begun]],
                NUMBERS: [(nothing, nothing)],
                REWARDS: [(nothing[:3], nothing[:3])],
            },
            latency=(self.latency[0], self.latency[1]),
            calibration=(empty, empty),
            predictions=(Distribution(), Distribution()),
        )

    def suspects(self, window: int) -> Iterator[Finding]:
        """What a look finds by that by which the challenger looks worse at all: what doesn't, surely isn't."""
        failed, asked = (self.serving[:, :, row].sum(axis=(0, 2)) for row in (_FAILURES, _REQUESTS))
        if failed[1] * asked[0] > GUARDS[0].limit * failed[0] * asked[1]:
            yield look(GUARDS[0], self.evidence(window), alpha=_ALPHA)
        quantiles = [quantile_s(counts, 0.99) for counts in self.latency]
        if quantiles[1] > GUARDS[1].limit * quantiles[0]:
            yield look(GUARDS[1], self.evidence(window), alpha=_ALPHA)
        if self._looks_less_accurate():
            yield look_at_metric(METRIC, self.evidence(window), margin=0.0, alpha=_ALPHA)

    def _looks_less_accurate(self) -> bool:
        labels, right = (self.classes[:, :, row].sum(axis=2) for row in (_LABELS, _CORRECT))
        with np.errstate(invalid="ignore"):
            accuracy: Floats = right / labels
        # Pooled over periods by weights that lie in between: not less accurate in any, it isn't in all.
        return bool((accuracy[:, 1] < accuracy[:, 0]).any())


def is_stopped(traffic: Traffic, rng: np.random.Generator) -> bool:
    """Whether a look after any window of a day finds something that is surely bad."""
    day = Day(traffic, rng)
    for window in range(WINDOWS):
        day.go_on(window)
        if any(each.standing is Standing.BROKEN for each in day.suspects(window)):
            return True
    return False


def is_rolled_back(traffic: Traffic, rng: np.random.Generator) -> bool:
    """Whether a day's watch of a new champion, like the one before it, finds its budget burnt."""
    before = Day(traffic, rng)
    for window in range(0, WINDOWS, 4):
        before.go_on(window)
    objectives = objectives_of(GUARDS, before.evidence(WINDOWS - 1), 0.001)
    after = Day(traffic, rng)
    samples: tuple[Sample, ...] = (Sample(at_ms=0, requests=0.0, bad=(0.0,) * len(objectives)),)
    for window in range(WINDOWS):
        after.go_on(window)
        sums: NDArray[np.float64] = after.serving.sum(axis=(0, 1, 3))
        at_ms = int((window + 1) * WINDOW_S * 1000)
        counts = after.latency[0] + after.latency[1]
        taken = sample(objectives, float(sums[_REQUESTS]), float(sums[_FAILURES]), counts, at_ms)
        samples = kept(samples, taken, WINDOWS * WINDOW_S)
        if burnt(objectives, samples, WINDOWS * WINDOW_S) is not None:
            return True
    return False


def healthy_alarms(days: int, traffic: Traffic | None = None) -> Alarms:
    """How many of *days* a healthy version would have been put back on."""
    rngs = _generators(days)
    traffic = traffic or Traffic()
    ends = [(is_stopped(traffic, next(rngs)), is_rolled_back(traffic, next(rngs))) for _ in range(days)]
    return Alarms(
        days=days,
        windows=days * WINDOWS,
        stopped=sum(stopped for stopped, _ in ends),
        rolled_back=sum(rolled_back for _, rolled_back in ends),
    )


def _generators(days: int) -> Iterator[np.random.Generator]:
    return (np.random.default_rng(each) for each in np.random.SeedSequence(SEED).spawn(2 * days))
