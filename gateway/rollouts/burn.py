"""How fast a new champion burns its error budget: what a rollout goes back by once there is nobody to compare with.

Burn rates over two windows each, as in the Site Reliability Workbook (chapter 5, "Multiwindow, Multi-Burn-Rate
Alerts"): the long one says that it matters, the short one, a twelfth of it, that it goes on. The workbook's windows are
of a month's budget; here they are parts of the time that is watched. A few requests burn any budget by chance, so
nothing is concluded before the part that is bad is surely over the budget, at any time, in 999 of 1,000 rollouts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gateway.comparison.confidence_sequences import bernoulli_sequence
from gateway.comparison.evidence import Evidence
from gateway.comparison.latency_counts import BOUNDS_S, Counts, quantile_s
from gateway.comparison.sums import Column
from gateway.rollouts.guard_findings import ALPHA
from gateway.rollouts.guards import Guard, GuardKind
from registry.rollout_entities import Objective, Sample

FAILURES = "failures"
SAMPLES_PER_WATCH = 288
"""Samples that are taken while it is watched: two in the shortest window."""
_SHORT = 12


class Window(NamedTuple):
    """A part of the time watched, and how many times the budget's rate may not be burnt within it."""

    part: float
    burn: float


WINDOWS = (Window(1 / 12, 14.4), Window(1 / 2, 6.0))
"""Of a watch of an hour: 5 minutes with 25 seconds, 30 minutes with 150 seconds."""


def objectives_of(guards: Sequence[Guard], evidence: Evidence, budget: float) -> tuple[Objective, ...]:
    """What the new champion is held to, given what it and the champion before were like side by side.

    Of failures always: who failed more than *budget* before may go on to. Of latency, as its guards say.
    """
    asked, failed = (evidence.total(0, column) for column in (Column.REQUESTS, Column.FAILURES))
    failures = Objective(name=FAILURES, budget=min(0.5, max(budget, failed / asked if asked else 0.0)))
    latencies = (_latency_objective(guard, evidence) for guard in guards if guard.share)
    return (failures, *(each for each in latencies if each is not None))


def _latency_objective(guard: Guard, evidence: Evidence) -> Objective | None:
    limit_s = guard.limit
    if guard.kind is GuardKind.QUANTILE_RATIO:
        limit_s *= quantile_s(evidence.latency[0], guard.share)
    if not np.isfinite(limit_s):
        return None
    return Objective(name=guard.text, budget=1 - guard.share, limit_s=limit_s)


def sample(objectives: Sequence[Objective], requests: float, failures: float, latency: Counts, at_ms: int) -> Sample:
    """What the champion's sums come to at an instant."""
    bad = (failures if each.limit_s is None else _slower(latency, each.limit_s) for each in objectives)
    return Sample(at_ms=at_ms, requests=requests, bad=tuple(map(float, bad)))


def kept(samples: Sequence[Sample], taken: Sample, watch_s: float) -> tuple[Sample, ...]:
    """*samples* and *taken*, without those that no window reaches back to any more."""
    longest_ms = 1000 * watch_s * max(window.part for window in WINDOWS)
    reached = [each for each in samples[1:] if each.at_ms <= taken.at_ms - longest_ms]
    oldest = reached[-1] if reached else next(iter(samples), None)
    first = samples.index(oldest) if oldest is not None else 0
    return (*samples[first:], taken)


def burnt(objectives: Sequence[Objective], samples: Sequence[Sample], watch_s: float) -> str | None:
    """Why to go back, in a sentence; None if there is no reason to."""
    if len(samples) < 2:
        return None
    for place, objective in enumerate(objectives):
        newest = samples[-1]
        lower, _ = bernoulli_sequence(
            np.array(newest.requests), np.array(newest.bad[place]), alpha=ALPHA / len(objectives)
        )
        if float(lower) <= objective.budget:
            continue
        for window in WINDOWS:
            long_s = window.part * watch_s
            rates = [_burn(samples, place, objective.budget, each_s) for each_s in (long_s, long_s / _SHORT)]
            if min(rates) >= window.burn:
                return (
                    f"{objective.name}: the budget of {objective.budget:.2%} is burnt {rates[0]:.1f} times too fast "
                    f"over {long_s:.3g} s and {rates[1]:.1f} times over {long_s / _SHORT:.3g} s, where "
                    f"{window.burn:g} is the most; {newest.bad[place]:.0f} of {newest.requests:.0f} requests were bad"
                )
    return None


def _burn(samples: Sequence[Sample], place: int, budget: float, window_s: float) -> float:
    """The part of the requests that were bad in the last *window_s*, in budgets; 0 if there were none.

    What lies before the flip counts as good: a burst in the first minute isn't one of half an hour.
    """
    newest = samples[-1]
    inside = [each for each in samples[:-1] if each.at_ms <= newest.at_ms - 1000 * window_s]
    began = inside[-1] if inside else samples[0]
    requests = newest.requests - began.requests
    if requests <= 0:
        return 0.0
    filled = min(1.0, (newest.at_ms - began.at_ms) / (1000 * window_s))
    return filled * (newest.bad[place] - began.bad[place]) / requests / budget


def _slower(latency: Counts, limit_s: float) -> float:
    """Requests of buckets all of which lie above the limit, so that none is called slow that wasn't."""
    first = int(np.searchsorted(BOUNDS_S, limit_s)) + 1
    return float(latency[first:].sum())
