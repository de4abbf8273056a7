"""What a load test asks of a version: `p99=50ms`, `failures=0`, `failures=0.1%`, `rps=100`."""

import math
import re
from enum import StrEnum

import msgspec

from gateway.load_testing.figures import Figures
from tracking.errors import InvalidParameter

SLOS_MAX = 20
_TIMES_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_LIMIT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z%/]*)")


class Measure(StrEnum):
    MEAN = "mean"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    MAX = "max"
    FAILURES = "failures"
    RPS = "rps"


class Unit(StrEnum):
    MS = "ms"
    COUNT = ""
    PERCENT = "%"
    PER_S = "/s"


_UNITS = {Measure.FAILURES: (Unit.COUNT, Unit.PERCENT), Measure.RPS: (Unit.PER_S,)}


class Slo(msgspec.Struct, frozen=True):
    """At most *limit* of *measure*; of requests a second at least."""

    measure: Measure
    limit: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.measure}={self.limit:g}{'' if self.unit is Unit.PER_S else self.unit}"


class BadSlo(InvalidParameter):
    def __init__(self, text: str, what: str) -> None:
        super().__init__(f"{text[:100]!r} is no SLO: {what}. Expected such as p99=50ms, failures=0.1% or rps=100.")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one SLO."""

    slo: str
    kept: bool
    seen: float | None
    """In the unit of its limit; None if there was nothing to see."""
    said: str
    """The same in words."""


def parse_slo(text: str) -> Slo:
    """The SLO that *text* asks for.

    Raises:
        BadSlo: saying what is wrong with it.
    """
    name, equals, asked = (part.strip().lower() for part in text.partition("="))
    if not equals:
        raise BadSlo(text, "there is no '='")
    if name not in {measure.value for measure in Measure}:
        raise BadSlo(text, f"{name[:50]!r} isn't measured; {', '.join(Measure)} are")
    measure, found = Measure(name), _LIMIT.fullmatch(asked)
    if found is None:
        raise BadSlo(text, f"{asked[:50]!r} is no limit")
    number, unit = float(found["number"]), found["unit"]
    if measure not in _UNITS:
        if unit not in _TIMES_MS:
            raise BadSlo(text, f"a time takes a unit ({', '.join(_TIMES_MS)})")
        number, unit = number * _TIMES_MS[unit], Unit.MS
    elif measure is Measure.RPS:
        unit = unit or Unit.PER_S
    if unit not in _UNITS.get(measure, (Unit.MS,)):
        raise BadSlo(text, f"{unit!r} is no unit of {name}")
    if unit == Unit.COUNT and number != int(number):
        raise BadSlo(text, "failures are counted whole, or said in percent")
    if not math.isfinite(number) or (unit == Unit.PERCENT and number > 100):
        raise BadSlo(text, f"{asked[:50]!r} is more than there can be")
    return Slo(measure, number, Unit(unit))


def judge(slo: Slo, figures: Figures) -> Outcome:
    """Whether *slo* was kept; where nothing was asked, nothing was."""
    seen = _seen(slo, figures) if figures.requests else None
    if seen is None:
        return Outcome(slo=str(slo), kept=False, seen=None, said="nothing was answered, so nothing was measured")
    kept = seen >= slo.limit if slo.measure is Measure.RPS else seen <= slo.limit
    return Outcome(slo=str(slo), kept=kept, seen=seen, said=_said(slo, seen, kept=kept))


def _seen(slo: Slo, figures: Figures) -> float | None:
    match slo.measure:
        case Measure.FAILURES:
            return 100 * figures.failed / figures.requests if slo.unit is Unit.PERCENT else float(figures.failed)
        case Measure.RPS:
            return figures.rps
        case measure:
            latency_ms: float | None = getattr(figures, f"{measure}_ms")
            return latency_ms


def _said(slo: Slo, seen: float, *, kept: bool) -> str:
    said = f"{slo.measure} {seen:.4g}{slo.unit}"
    if kept:
        return f"{said}, within {slo.limit:g}{slo.unit}" if slo.measure is not Measure.RPS else said
    if slo.measure is Measure.RPS:
        return f"{said}, {1 - seen / slo.limit:.0%} less than {slo.limit:g}{slo.unit}"
    by = f"{seen / slo.limit - 1:.0%} more than" if slo.limit else "and not"
    return f"{said}, {by} {slo.limit:g}{slo.unit}"
