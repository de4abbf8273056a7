"""Where things lie in the pictures of a comparison, in units of their own; the template draws them. Pure."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from gateway.api.comparison_wire import ArmFigures, MetricFigures

_MARGIN = 1.15
_TICKS_MS = [step * 10.0**power for power in range(-1, 6) for step in (1, 2, 5)]
_TICKS_MAX = 6


class Bar(msgspec.Struct, frozen=True):
    """A metric's interval, from -100 (worse) over 0 (no difference) to 100 (better)."""

    low: float
    high: float
    dot: float | None
    indifferent: float
    """Up to where, either way, a difference doesn't matter."""
    is_open: bool
    """The interval has no end."""


def bar_of(metric: MetricFigures, minimal_effect: float) -> Bar:
    """Each metric has a scale of its own, as a millisecond is no percentage."""
    sign = 1 if metric.better == "higher" else -1
    known = [abs(end) for end in (metric.lower, metric.upper, metric.difference) if end is not None]
    scale = 100 / (_MARGIN * max([*known, minimal_effect]) or 1.0)
    ends = [sign * (side * math.inf if end is None else end) for side, end in ((-1, metric.lower), (1, metric.upper))]
    low, high = sorted(ends)
    return Bar(
        low=_clipped(low * scale),
        high=_clipped(high * scale),
        dot=None if metric.difference is None else round(sign * metric.difference * scale, 2),
        indifferent=round(minimal_effect * scale, 2),
        is_open=None in (metric.lower, metric.upper),
    )


def _clipped(place: float) -> float:
    return round(min(100.0, max(-100.0, place)), 2)


class Tick(msgspec.Struct, frozen=True):
    at: float
    said: str


class Histograms(msgspec.Struct, frozen=True):
    """Steps over times on a logarithmic scale, 0 to 100 across and 0 (many) to 100 (none) down."""

    outlines: tuple[str, str]
    """Of champion and challenger, as the points of a polyline."""
    ticks: list[Tick]


def histograms_of(champion: ArmFigures, challenger: ArmFigures) -> Histograms | None:
    """Shares of each arm's requests; None if there are none."""
    both = [{_place(ms): count for ms, count in arm.latency.buckets} for arm in (champion, challenger)]
    places = sorted({place for counts in both for place in counts})
    if not places:
        return None
    first, last = places[0] - 1, places[-1] + 1
    width = 100 / (last - first)
    tallest = max(count / max(sum(counts.values()), 1) for counts in both for count in counts.values())
    shown = [ms for ms in _TICKS_MS if first <= _position(ms) <= last]
    if len(shown) > _TICKS_MAX:
        shown = [ms for ms in shown if math.log10(ms).is_integer()]
    ticks = [Tick(round((_position(ms) - first) * width, 2), _time(ms)) for ms in shown]
    outlines = (_outline(both[0], first, last, width, tallest), _outline(both[1], first, last, width, tallest))
    return Histograms(outlines, ticks)


def _outline(counts: dict[int, int], first: int, last: int, width: float, tallest: float) -> str:
    total = max(sum(counts.values()), 1)
    points = [(0.0, 100.0)]
    for place in range(first, last):
        top = 100 * (1 - counts.get(place, 0) / total / tallest)
        points += [((place - first) * width, top), ((place - first + 1) * width, top)]
    return _polyline([*points, (100.0, 100.0)])


def _position(ms: float) -> float:
    """In buckets, of which each ends 2^(1/8) above the one before; a bucket's place is that of its end, less one."""
    return 8 * math.log2(ms / 0.1)


def _place(ms: float | None) -> int:
    # The bucket without a bound is drawn beside the last that has one.
    return 160 if ms is None else round(_position(ms)) - 1


def _time(ms: float) -> str:
    return f"{ms:g} ms" if ms < 1_000 else f"{ms / 1_000:g} s"


class Curve(msgspec.Struct, frozen=True):
    """A reliability curve in a square of 100: right is more probable, up (towards 0) is oftener true."""

    line: str
    points: list[tuple[float, float, float]]
    """Across, down, and how large: by the labels."""


def curve_of(arm: ArmFigures) -> Curve | None:
    if arm.calibration is None:
        return None
    curve = arm.calibration.curve
    most = max(point.labels for point in curve)
    places = [(100 * point.predicted, 100 * (1 - point.observed)) for point in curve]
    sizes = [round(0.8 + 1.7 * math.sqrt(point.labels / most), 2) for point in curve]
    points = [(round(x, 2), round(y, 2), size) for (x, y), size in zip(places, sizes, strict=True)]
    return Curve(_polyline(places), points)


def _polyline(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


class Share(msgspec.Struct, frozen=True):
    """How often both arms predicted a class, in per cent."""

    name: str
    champion: float
    challenger: float


def shares_of(champion: ArmFigures, challenger: ArmFigures, *, most: int = 10) -> Sequence[Share]:
    """The classes that either predicted most, and all others together."""
    ours, theirs = (_shares(arm) for arm in (champion, challenger))
    ranked = sorted({*ours, *theirs}, key=lambda name: (-max(ours.get(name, 0), theirs.get(name, 0)), name))
    shown = [Share(name, ours.get(name, 0.0), theirs.get(name, 0.0)) for name in ranked[:most]]
    left = [100 - sum(getattr(share, arm) for share in shown) for arm in ("champion", "challenger")]
    others = len(ranked) > most or any(arm.predictions.other_classes for arm in (champion, challenger))
    return [*shown, Share("others", left[0], left[1])] if others else shown


def _shares(arm: ArmFigures) -> dict[str, float]:
    classes = arm.predictions.classes
    total = sum(classes.values()) + arm.predictions.other_classes
    return {name: 100 * count / total for name, count in classes.items()}
