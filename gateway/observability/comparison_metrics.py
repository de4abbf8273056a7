"""What is concluded of challengers, as gauges. Every replica tells of all endpoints, whichever of them judged."""

from collections.abc import Iterable

from gateway.comparison.judge import Standing
from gateway.observability.metrics import Family, Kind, Labels, Metrics

_CHALLENGER = ("endpoint", "model", "version", "arm")
_BY_METRIC = (*_CHALLENGER, "metric")
_VERDICTS = {"better": 1.0, "not_yet": 0.0, "worse": -1.0}

DIFFERENCE = Family("gateway_comparison_difference", "Challenger minus champion.", Kind.GAUGE, _BY_METRIC)
LOWER = Family("gateway_comparison_lower", "The least that the difference may be.", Kind.GAUGE, _BY_METRIC)
UPPER = Family("gateway_comparison_upper", "The most that the difference may be.", Kind.GAUGE, _BY_METRIC)
VERDICT = Family(
    "gateway_comparison_verdict", "1: the challenger is better; -1: worse; 0: not yet.", Kind.GAUGE, _BY_METRIC
)
MISMATCH_P = Family(
    "gateway_comparison_mismatch_p",
    "Least p-value so far of the test of the split; below 0.01 all verdicts are locked.",
    Kind.GAUGE,
    _CHALLENGER,
)


def show(metrics: Metrics, standings: Iterable[Standing]) -> None:
    """Have the gauges be of just these challengers."""
    kept = {(*_labels(each), verdict.metric): verdict for each in standings for verdict in each.verdicts}
    metrics.set_gauges(VERDICT, {labels: _VERDICTS[verdict.verdict] for labels, verdict in kept.items()})
    metrics.set_gauges(MISMATCH_P, {labels[:-1]: verdict.mismatch_p for labels, verdict in kept.items()})
    _show_where_known(metrics, DIFFERENCE, {labels: verdict.difference for labels, verdict in kept.items()})
    _show_where_known(metrics, LOWER, {labels: verdict.lower for labels, verdict in kept.items()})
    _show_where_known(metrics, UPPER, {labels: verdict.upper for labels, verdict in kept.items()})


def _show_where_known(metrics: Metrics, family: Family, values: dict[Labels, float | None]) -> None:
    metrics.set_gauges(family, {labels: value for labels, value in values.items() if value is not None})


def _labels(standing: Standing) -> Labels:
    return standing.endpoint, standing.model, str(standing.version), standing.arm
