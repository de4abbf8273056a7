"""All that is concluded of two arms at one look, for a judge to keep and for people to see."""

import math
from collections.abc import Iterable, Mapping

import msgspec

from gateway.comparison.evidence import Evidence, assignment_ratio, compare_metric, metrics_counted
from gateway.comparison.metrics import Metric
from gateway.comparison.planner import PlanImpossible, plan_means
from gateway.comparison.sample_ratio import ALPHA as MISMATCH_ALPHA
from gateway.comparison.sample_ratio import SampleRatio
from gateway.comparison.statistics import Comparison, estimate
from gateway.comparison.verdict import Judgement, Verdict, judge
from registry.entities import KeptVerdict

_TELLING = ("reward", "accuracy", "mae", "rmse", "f1", "log_loss", "brier", "failure_rate", "slow_rate")
"""What people mean by "better", where they don't say: what was said of the answers goes before how they were given."""


class Look(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What the evidence says by itself; what was found before is for `conclude`."""

    evidence: Evidence
    split: SampleRatio
    compared: Mapping[Metric, Comparison]


class Conclusion(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One look, judged."""

    evidence: Evidence
    split: SampleRatio
    """With the least p-value so far."""
    compared: Mapping[Metric, Comparison]
    judgements: Mapping[Metric, Judgement]


def look_at(evidence: Evidence, metrics: Iterable[Metric] | None = None) -> Look:
    """Compare by each of *metrics*, all that both arms have something of unless told."""
    chosen = metrics_counted(evidence) if metrics is None else metrics
    return Look(
        evidence=evidence,
        split=assignment_ratio(evidence),
        compared={metric: compare_metric(evidence, metric) for metric in chosen},
    )


def conclude(look: Look, *, least_p: float = 1.0, minimal_effect: float = 0.0) -> Conclusion:
    """Judge what was seen, where *least_p* is the least p-value of the split's test at earlier looks."""
    p = min(least_p, look.split.p_value)
    split = msgspec.structs.replace(look.split, p_value=p, mismatch=p < MISMATCH_ALPHA)
    return Conclusion(
        evidence=look.evidence,
        split=split,
        compared=look.compared,
        judgements={
            metric: _judged(look.evidence, metric, comparison, split, minimal_effect)
            for metric, comparison in look.compared.items()
        },
    )


def _judged(
    evidence: Evidence, metric: Metric, comparison: Comparison, split: SampleRatio, minimal_effect: float
) -> Judgement:
    if evidence.is_one_version:
        reason = f"both arms are version {evidence.champion[1]}, the same version"
        return Judgement(verdict=Verdict.NOT_YET, reason=reason)
    return judge(metric.better, comparison.interval, split, minimal_effect=minimal_effect)


def telling_metric(metrics: Iterable[Metric]) -> Metric | None:
    """The one of *metrics* to conclude by where nobody said which; None if there is none."""
    return min(metrics, key=lambda metric: _TELLING.index(metric.name), default=None)


def sentence(conclusion: Conclusion, metric: Metric | None) -> str:
    """The conclusion by *metric* in one line."""
    evidence = conclusion.evidence
    (champion, old), (challenger, new) = evidence.champion, evidence.challenger
    if evidence.is_one_version:
        return f"The same version: {champion} and {challenger} are both version {new}."
    if metric is None or metric not in conclusion.judgements:
        return f"Not yet: nothing was counted of both {champion} (version {old}) and {challenger} (version {new})."
    judged = conclusion.judgements[metric]
    who = f"{challenger} (version {new})"
    match judged:
        case Judgement(locked=True):
            return f"Locked: requests didn't fall on the arms as the split says, so nothing is said of {who}."
        case Judgement(verdict=Verdict.NOT_YET, alike=True):
            return (
                f"Alike: {who} and {champion} (version {old}) don't differ by {metric.name}; waiting won't change it."
            )
        case Judgement(verdict=Verdict.NOT_YET):
            return f"Not yet: {metric.name} doesn't tell {who} from {champion} (version {old})."
        case _:
            return f"{judged.verdict.value.capitalize()}: {who} than {champion} (version {old}), by {metric.name}."


def kept_verdicts(conclusion: Conclusion, *, now_ms: int) -> list[KeptVerdict]:
    """The same as it is kept."""
    return [
        _kept(conclusion, conclusion.compared[metric], judgement, now_ms)
        for metric, judgement in conclusion.judgements.items()
    ]


def _kept(conclusion: Conclusion, comparison: Comparison, judgement: Judgement, now_ms: int) -> KeptVerdict:
    evidence = conclusion.evidence
    return KeptVerdict(
        champion=evidence.champion[1],
        challenger=evidence.challenger[1],
        arm=evidence.challenger[0],
        metric=comparison.metric,
        from_period=evidence.from_period,
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        alike=judgement.alike,
        difference=finite(comparison.difference),
        lower=finite(float(comparison.interval.lower)),
        upper=finite(float(comparison.interval.upper)),
        champion_n=comparison.champion_n,
        challenger_n=comparison.challenger_n,
        mismatch_p=conclusion.split.p_value,
        judged_ms=now_ms,
    )


def finite(value: float) -> float | None:
    """*value*, where it is a number that JSON and databases have."""
    return value if math.isfinite(value) else None


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """How many it takes until a difference is seen with a power of 80 %, of both arms together."""

    difference: float
    total: int
    """As many as are counted by the metric: labels, or requests."""
    more: int
    """Than there are; 0 if there are as many."""


def needed(conclusion: Conclusion, metric: Metric, *, minimal_effect: float = 0.0) -> Needed | None:
    """Until *minimal_effect* is seen, or a difference as large as the present one; None where that can't be said.

    As requests of a unit resemble each other, it takes the design effect times as many as of strangers.
    """
    comparison = conclusion.compared[metric]
    difference = minimal_effect or abs(comparison.difference)
    counted = comparison.champion_n + comparison.challenger_n
    periods = conclusion.evidence.sums[metric.layout]
    arms = [estimate(metric, sum(arm[1:], start=arm[0])) for arm in zip(*periods, strict=True)]
    try:
        plan = plan_means(
            difference,
            champion_variance=float(arms[0].spread) / comparison.champion_n,
            challenger_variance=float(arms[1].spread) / comparison.challenger_n,
            challenger_share=comparison.challenger_n / counted,
        )
    except (PlanImpossible, ZeroDivisionError):
        return None
    total = math.ceil(plan.requests * comparison.design_effect)
    return Needed(difference=difference, total=total, more=max(0, total - int(counted)))
