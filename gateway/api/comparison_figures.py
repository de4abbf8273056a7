"""What the API tells of a conclusion. Imports scipy, so it is imported when somebody first asks."""

from collections.abc import Mapping

import msgspec
import numpy as np

from gateway.api.comparison_wire import (
    ArmFigures,
    CalibrationFigures,
    ComparisonAnswer,
    LatencyFigures,
    MetricFigures,
    NeededFigures,
    NumberFigures,
    PeriodFigures,
    PredictionFigures,
    RatioFigures,
    ReliabilityFigures,
    SplitFigures,
)
from gateway.comparison.calibration import CalibrationSums, expected_calibration_error, reliability_curve
from gateway.comparison.conclusions import Conclusion, conclude, finite, look_at, needed, sentence, telling_metric
from gateway.comparison.confidence_sequences import bernoulli_sequence
from gateway.comparison.distribution import Distribution
from gateway.comparison.evidence import Evidence, failure_ratio, latency_ratio, metrics_counted
from gateway.comparison.latency_counts import BOUNDS_S, Counts, quantile_s
from gateway.comparison.metrics import FAILURE_RATE, REWARD, Metric, metric_named, reward_within
from gateway.comparison.statistics import ALPHA
from gateway.comparison.sums import REWARDS, Column
from gateway.comparison.verdict import Judgement, Verdict
from registry.entities import CHAMPION, Endpoint
from tracking.errors import InvalidParameter


class EffectImpossible(InvalidParameter):
    def __init__(self, minimal_effect: float) -> None:
        super().__init__(f"A minimal effect of {minimal_effect:g} makes no sense; expected a number, 0 or more.")


class RewardsBeyond(InvalidParameter):
    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__(
            f"Rewards aren't within {lowest:g} and {highest:g}: expected two bounds, the lower first, within which all "
            "of them lie."
        )


def compare_arms(
    endpoint: Endpoint,
    evidence: Evidence,
    shares_bp: Mapping[str, int],
    *,
    least_p: float,
    metric: str | None = None,
    minimal_effect: float = 0.0,
    rewards_within: tuple[float, float] | None = None,
) -> ComparisonAnswer:
    """Conclude by the metric that is named *metric*, or by the most telling one, and show all others.

    Raises:
        MetricUnknown: if there is none of that name.
        EffectImpossible: if *minimal_effect* is none.
        RewardsBeyond: if they can't be *rewards_within*.
    """
    if not 0 <= minimal_effect < float("inf"):
        raise EffectImpossible(minimal_effect)
    named = None if metric is None else metric_named(metric)
    look = look_at(evidence, [_bounded(evidence, each, rewards_within) for each in metrics_counted(evidence)])
    conclusion = conclude(look, least_p=least_p, minimal_effect=minimal_effect)
    if named is None:
        by = telling_metric(conclusion.judgements)
    else:
        by = next((each for each in conclusion.judgements if each.name == named.name), named)
    judged = _judgement(conclusion, by)
    return ComparisonAnswer(
        endpoint=endpoint.name,
        model=endpoint.model,
        conclusion=sentence(conclusion, by),
        metric=None if by is None else by.name,
        verdict=judged.verdict.value,
        reason=judged.reason,
        minimal_effect=minimal_effect,
        champion=_arm(conclusion, 0, shares_bp),
        challenger=_arm(conclusion, 1, shares_bp),
        others=[arm for arm in shares_bp if arm not in {CHAMPION, evidence.challenger[0]}],
        metrics=[_metric(conclusion, each, minimal_effect) for each in conclusion.judgements],
        failure_ratio=_ratio(*failure_ratio(evidence)),
        p99_ratio=_ratio(*latency_ratio(evidence, 0.99)),
        split=SplitFigures(
            asked=finite(conclusion.split.asked),
            observed=finite(conclusion.split.observed),
            p_value=conclusion.split.p_value,
            locked=conclusion.split.mismatch,
        ),
        periods=PeriodFigures(
            first=evidence.from_period, compared=list(evidence.periods), left_out=list(evidence.left_out)
        ),
    )


def _bounded(evidence: Evidence, metric: Metric, rewards_within: tuple[float, float] | None) -> Metric:
    if metric is not REWARD or rewards_within is None:
        return metric
    lowest, highest = rewards_within
    means = [
        evidence.total(arm, Column.REWARDS, REWARDS) / evidence.total(arm, Column.LABELS, REWARDS) for arm in (0, 1)
    ]
    # Who lies beyond isn't known, but their mean can't.
    if not lowest < highest or not all(lowest <= mean <= highest for mean in means):
        raise RewardsBeyond(lowest, highest)
    return reward_within(lowest, highest)


def _judgement(conclusion: Conclusion, metric: Metric | None) -> Judgement:
    if metric is not None and metric in conclusion.judgements:
        return conclusion.judgements[metric]
    evidence = conclusion.evidence
    if evidence.is_one_version:
        reason = "what they were before is compared where both versions are named"
        return Judgement(verdict=Verdict.NOT_YET, reason=reason)
    what = "nothing" if metric is None else f"nothing that makes {metric.name}"
    if evidence.left_out:
        reason = (
            f"other versions answered in the same period of the split ({', '.join(map(str, evidence.left_out))}); set "
            "the split again, and a new one begins"
        )
    else:
        reason = f"{what} was counted of both arms in a period in which each had a share"
    return Judgement(verdict=Verdict.NOT_YET, reason=reason)


def _arm(conclusion: Conclusion, place: int, shares_bp: Mapping[str, int]) -> ArmFigures:
    evidence = conclusion.evidence
    arm, version = (evidence.champion, evidence.challenger)[place]
    requests, failures = (evidence.total(place, column) for column in (Column.REQUESTS, Column.FAILURES))
    failing = conclusion.compared.get(FAILURE_RATE)
    effect = max(1.0, failing.design_effect) if failing else 1.0
    lower, upper = bernoulli_sequence(requests / effect, failures / effect, alpha=ALPHA)
    return ArmFigures(
        arm=arm,
        version=version,
        share_bp=shares_bp.get(arm, 0),
        requests=int(requests),
        failures=int(failures),
        failure_rate=failures / requests if requests else None,
        failure_rate_lower=float(lower),
        failure_rate_upper=float(upper),
        latency=_latency(evidence.latency[place]),
        predictions=_predictions(evidence.predictions[place]),
        calibration=_calibration(evidence.calibration[place]),
    )


def _latency(counts: Counts) -> LatencyFigures:
    p50, p90, p99 = (finite(quantile_s(counts, share) * 1000) for share in (0.5, 0.9, 0.99))
    bounds_ms = [*(BOUNDS_S * 1000).tolist(), None]
    buckets = [(bounds_ms[place], int(counts[place])) for place in np.flatnonzero(counts)]
    return LatencyFigures(p50_ms=p50, p90_ms=p90, p99_ms=p99, buckets=buckets)


def _predictions(predicted: Distribution) -> PredictionFigures:
    numbers = None
    if predicted.numbers:
        p10, p50, p90 = (finite(predicted.quantile(share)) for share in (0.1, 0.5, 0.9))
        numbers = NumberFigures(
            count=predicted.numbers,
            mean=finite(predicted.mean),
            deviation=finite(predicted.deviation),
            lowest=finite(predicted.lowest),
            p10=p10,
            p50=p50,
            p90=p90,
            highest=finite(predicted.highest),
        )
    most_frequent_first = sorted(predicted.classes.items(), key=lambda item: (-item[1], item[0]))
    return PredictionFigures(
        classes=dict(most_frequent_first),
        other_classes=predicted.other_classes,
        numbers=numbers,
        not_finite=predicted.not_finite,
    )


def _calibration(sums: CalibrationSums) -> CalibrationFigures | None:
    if not sums.labels.sum():
        return None
    curve = [
        ReliabilityFigures(predicted=point.predicted, observed=point.observed, labels=point.labels)
        for point in reliability_curve(sums)
    ]
    return CalibrationFigures(ece=expected_calibration_error(sums), curve=curve)


def _metric(conclusion: Conclusion, metric: Metric, minimal_effect: float) -> MetricFigures:
    comparison, judgement = conclusion.compared[metric], conclusion.judgements[metric]
    takes = None if judgement.locked else needed(conclusion, metric, minimal_effect=minimal_effect)
    return MetricFigures(
        metric=metric.name,
        better=metric.better.value,
        champion=finite(comparison.champion),
        challenger=finite(comparison.challenger),
        champion_n=comparison.champion_n,
        challenger_n=comparison.challenger_n,
        difference=finite(comparison.difference),
        lower=finite(float(comparison.interval.lower)),
        upper=finite(float(comparison.interval.upper)),
        p_value=comparison.p_value,
        method=comparison.interval.method.value,
        design_effect=comparison.design_effect,
        clusters=comparison.clusters,
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        alike=judgement.alike,
        needed=None if takes is None else NeededFigures(**msgspec.structs.asdict(takes)),
    )


def _ratio(lower: float, upper: float) -> RatioFigures:
    return RatioFigures(lower=lower, upper=finite(upper))
