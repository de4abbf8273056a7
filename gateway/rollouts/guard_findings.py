"""What is to be said of a challenger by a guard, or by a metric, whenever one looks.

A guard is *broken* once the challenger surely is what it mustn't be, *kept* once it surely isn't, and *open* before.
Surely means wrong in one rollout of a thousand, over all looks and all guards of it together: a healthy version is put
back as rarely as that, however long it is looked at.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from gateway.comparison.confidence_sequences import bernoulli_sequence
from gateway.comparison.evidence import (
    Evidence,
    assignment_ratio,
    compare_metric,
    failure_ratio,
    latency_ratio,
    slowness_effect,
)
from gateway.comparison.interval_words import spoken
from gateway.comparison.latency import quantile_sequence
from gateway.comparison.metrics import FAILURE_RATE, SLOW_RATE, metric_named
from gateway.comparison.statistics import estimate, likeness_bound, pool
from gateway.comparison.sums import Column
from gateway.comparison.verdict import Verdict, judge
from gateway.rollouts.decision import NOTHING_COUNTED, Finding, Standing
from gateway.rollouts.guards import Guard, GuardKind

ALPHA = 0.001
"""How often a rollout of a version that is no worse may be stopped at all, by any of its guards or its metric."""
FAILURE_RATE_MIN = 0.001
"""Below which nobody is alarmed by failures, however many times the champion's they are."""


def findings(
    evidence: Evidence, guards: Sequence[Guard], metric: str | None, *, margin: float = 0.0
) -> tuple[Finding, ...]:
    """What is to be said by each of *guards* and, at the end, by *metric* if there is one."""
    alpha = ALPHA / max(1, len(guards) + (metric is not None))
    found = [look(guard, evidence, alpha=alpha) for guard in guards]
    if metric is not None:
        found.append(look_at_metric(metric, evidence, margin=margin, alpha=alpha))
    return tuple(found)


def look(guard: Guard, evidence: Evidence, *, alpha: float) -> Finding:
    """What is to be said by *guard*, at any time, wrong in *alpha* of the rollouts at most."""
    match guard.kind:
        case GuardKind.FAILURES_RATIO:
            return _failures_ratio(guard, evidence, alpha)
        case GuardKind.FAILURES_RATE:
            ends = _failure_rate(evidence, alpha)
            known = spoken(ends[0], ends[1] if ends[1] < 1 else None, ".2%", floor=0.0)
            return _finding(guard, ends, f"{known} of the requests fail" if known else "too few requests to tell yet")
        case GuardKind.QUANTILE_RATIO:
            ends = latency_ratio(evidence, guard.share, alpha=alpha)
            name, known = f"p{guard.share * 100:g}", spoken(*ends, ".2f", floor=0.0)
            said = f"its {name} is {known} times the champion's" if known else f"nothing is known of its {name} yet"
            return _finding(guard, ends, said, blind=not _is_quantile_known(guard, evidence, alpha))
        case GuardKind.QUANTILE_S:
            found = quantile_sequence(
                evidence.latency[1], guard.share, alpha=alpha, design_effect=slowness_effect(evidence)
            )
            ends = (found.lower_s, found.upper_s)
            name, known = f"p{guard.share * 100:g}", spoken(ends[0] * 1000, ends[1] * 1000, ".1f", floor=0.0)
            said = f"its {name} is {known} ms" if known else f"nothing is known of its {name} yet"
            return _finding(guard, ends, said)
        case GuardKind.SLOW:
            compared = compare_metric(evidence, SLOW_RATE, alpha=alpha)
            ends = (float(compared.interval.lower), float(compared.interval.upper))
            known = spoken(*ends, "+.2%")
            said = (
                f"the part that is slow is larger by {known}" if known else "nothing is known of how many are slow yet"
            )
            return _finding(guard, ends, said)


def _is_quantile_known(guard: Guard, evidence: Evidence, alpha: float) -> bool:
    """Whether the champion's has an upper end, without which nothing is surely more than so many times as much.

    For p99 that takes some thousand requests of its.
    """
    effect = slowness_effect(evidence)
    found = quantile_sequence(evidence.latency[0], guard.share, alpha=alpha / 2, design_effect=effect)
    return math.isfinite(found.upper_s)


def _finding(guard: Guard, ends: tuple[float, float], said: str, *, blind: bool = False) -> Finding:
    lower, upper = ends
    standing = Standing.BROKEN if lower > guard.limit else Standing.KEPT if upper <= guard.limit else Standing.OPEN
    return Finding(name=guard.text, standing=standing, said=said, blind=blind)


def _failures_ratio(guard: Guard, evidence: Evidence, alpha: float) -> Finding:
    ends = failure_ratio(evidence, alpha=alpha)
    asked, failed = evidence.total(1, Column.REQUESTS), evidence.total(1, Column.FAILURES)
    known = spoken(*ends, ".2f", floor=0.0)
    compared = f"{known} times as often as the champion's" if known else "too few to compare with the champion's yet"
    said = f"{failed:.0f} of {asked:.0f} requests failed, {compared}"
    found = _finding(guard, ends, said)
    if found.standing is Standing.BROKEN and failed < FAILURE_RATE_MIN * asked:
        return msgspec.structs.replace(found, standing=Standing.OPEN)
    return found


def _failure_rate(evidence: Evidence, alpha: float) -> tuple[float, float]:
    difference = pool([(estimate(FAILURE_RATE, one), estimate(FAILURE_RATE, other)) for one, other in evidence.serving])
    effect = likeness_bound(FAILURE_RATE, evidence.serving, difference)
    asked, failed = evidence.total(1, Column.REQUESTS), evidence.total(1, Column.FAILURES)
    lower, upper = bernoulli_sequence(np.array(asked / effect), np.array(failed / effect), alpha=alpha)
    return float(lower), float(upper)


def look_at_metric(name: str, evidence: Evidence, *, margin: float, alpha: float) -> Finding:
    """By the metric: broken if the challenger is surely worse by more than *margin*, kept if it surely isn't."""
    metric = metric_named(name)
    compared = compare_metric(evidence, metric, alpha=alpha)
    if not (compared.champion_n and compared.challenger_n):
        return Finding(name=name, standing=Standing.OPEN, said=NOTHING_COUNTED, blind=True)
    judged = judge(metric.better, compared.interval, assignment_ratio(evidence), minimal_effect=margin)
    least, _ = sorted(
        (metric.better.sign * float(compared.interval.lower), metric.better.sign * float(compared.interval.upper))
    )
    if judged.verdict is Verdict.WORSE:
        standing = Standing.BROKEN
    else:
        standing = Standing.KEPT if least >= -margin and not judged.locked else Standing.OPEN
    said = f"{compared.challenger:.4g} where the champion's is {compared.champion:.4g}; {judged.reason}"
    return Finding(name=name, standing=standing, said=said)
