"""What is told of a comparison. Whatever can't be said, or has no end, is null: JSON knows no infinity."""

import msgspec


class LatencyFigures(msgspec.Struct, kw_only=True):
    """Times within which so many of an arm's requests were answered, to 9 %."""

    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    buckets: list[tuple[float | None, int]]
    """Requests by the upper bound of their time in ms, each bound 9 % above the one before; null: no bound."""


class NumberFigures(msgspec.Struct, kw_only=True):
    """How the numbers that were predicted are distributed."""

    count: int
    mean: float | None
    deviation: float | None
    lowest: float | None
    p10: float | None
    p50: float | None
    p90: float | None
    highest: float | None


class PredictionFigures(msgspec.Struct, kw_only=True):
    """How often what was predicted, of answers that are one class or one number."""

    classes: dict[str, int]
    other_classes: int
    numbers: NumberFigures | None
    not_finite: int


class ReliabilityFigures(msgspec.Struct, kw_only=True):
    """Predicted probabilities, in bins, beside the share that came true."""

    predicted: float
    observed: float
    labels: int


class CalibrationFigures(msgspec.Struct, kw_only=True):
    ece: float
    """Expected calibration error. It is larger where there are few labels."""
    curve: list[ReliabilityFigures]


class ArmFigures(msgspec.Struct, kw_only=True):
    """One arm by itself, over all periods that count."""

    arm: str
    version: int
    share_bp: int
    requests: int
    failures: int
    failure_rate: float | None
    failure_rate_lower: float
    failure_rate_upper: float
    latency: LatencyFigures
    predictions: PredictionFigures
    calibration: CalibrationFigures | None


class NeededFigures(msgspec.Struct, kw_only=True):
    """How many labels, or requests, of both arms together show a difference with a power of 80 %."""

    difference: float
    total: int
    more: int


class MetricFigures(msgspec.Struct, kw_only=True):
    """Challenger against champion by one metric."""

    metric: str
    better: str
    """`higher` or `lower`."""
    champion: float | None
    challenger: float | None
    champion_n: float
    challenger_n: float
    difference: float | None
    """Challenger minus champion, taken within periods; not the difference of the two figures above."""
    lower: float | None
    """It lies above this, whenever one looks; null: no bound."""
    upper: float | None
    p_value: float
    method: str
    design_effect: float
    """How many requests of a caller say as much as one of a stranger."""
    clusters: int
    verdict: str
    """`better`, `worse` or `not_yet`."""
    reason: str
    alike: bool
    """No difference of the minimal effect is left to be found."""
    needed: NeededFigures | None


class RatioFigures(msgspec.Struct, kw_only=True):
    """How many times the champion's the challenger's is, whenever one looks; null: no bound."""

    lower: float
    upper: float | None


class SplitFigures(msgspec.Struct, kw_only=True):
    """The challenger's share of both arms' requests."""

    asked: float | None
    observed: float | None
    p_value: float
    """The least so far, of "requests fall on the arms as the split says"."""
    locked: bool
    """They don't, so that no verdict is given."""


class PeriodFigures(msgspec.Struct, kw_only=True):
    """Which periods of the split count."""

    first: int
    """Before which none does: units were assigned anew."""
    compared: list[int]
    left_out: list[int]
    """Both were asked in them, but so was another version of an arm."""


class ComparisonAnswer(msgspec.Struct, kw_only=True):
    """Champion against challenger, as of now."""

    endpoint: str
    model: str
    conclusion: str
    """One sentence, by `metric`."""
    metric: str | None
    verdict: str
    reason: str
    minimal_effect: float
    champion: ArmFigures
    challenger: ArmFigures
    others: list[str]
    """Arms that could be compared as well."""
    metrics: list[MetricFigures]
    failure_ratio: RatioFigures
    p99_ratio: RatioFigures
    split: SplitFigures
    periods: PeriodFigures


class PlanAnswer(msgspec.Struct, kw_only=True):
    """How many it takes until a difference is seen with a power of 80 %; units of both arms together."""

    units: int
    requests: int
    challenger_units: int
    days: float | None
