"""Guards of a rollout as people write them: what the challenger must not be."""

import re
from enum import StrEnum

import msgspec

from tracking.errors import InvalidParameter

_FAILURE_RATIO = 1.5
_SLOW_MARGIN = 0.01

_GUARD = re.compile(
    r"(?P<name>failures|slow|p(?P<percent>[0-9]{1,2}(\.[0-9])?))(=(?P<value>[0-9.]+)(?P<unit>x|%|ms|s)?)?"
)


class GuardUnknown(InvalidParameter):
    def __init__(self, text: str) -> None:
        super().__init__(
            f"There is no guard {text[:100]!r}; there are failures, failures=2x, failures=1%, p99=1.2x, p99=50ms "
            "(p50 to p99.9), slow and slow=2%. A multiple is 1x to 1000x, a time 0.1ms to 100s, a part up to 100%, and "
            "that of failures over 0%."
        )


class GuardKind(StrEnum):
    FAILURES_RATIO = "failures_ratio"
    FAILURES_RATE = "failures_rate"
    QUANTILE_RATIO = "quantile_ratio"
    QUANTILE_S = "quantile_s"
    SLOW = "slow"


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    """As it was written."""
    kind: GuardKind
    limit: float
    """Times the champion's, a share of requests, or seconds."""
    share: float = 0.0
    """Of a quantile: 0.99 for p99."""


def parse_guard(text: str) -> Guard:
    """Read ``failures``, ``failures=2x``, ``failures=1%``, ``p99=1.2x``, ``p99=50ms``, ``slow``, ``slow=2%``.

    Raises:
        GuardUnknown: if it is none of these.
    """
    found = _GUARD.fullmatch(text)
    if found is None:
        raise GuardUnknown(text)
    unit = found["unit"] if found["value"] else ""
    value = _number(text, found["value"])
    match found["name"], unit:
        case "failures", "" | "x":
            return Guard(
                text=text,
                kind=GuardKind.FAILURES_RATIO,
                limit=_within(text, _FAILURE_RATIO if value is None else value, 1, 1e3),
            )
        case "failures", "%":
            return Guard(text=text, kind=GuardKind.FAILURES_RATE, limit=_within(text, (value or 0) / 100, 1e-6, 1))
        case "slow", "" | "%":
            limit = _SLOW_MARGIN if value is None else value / 100
            return Guard(text=text, kind=GuardKind.SLOW, limit=_within(text, limit, 0, 1))
        case "failures" | "slow", _:
            raise GuardUnknown(text)
    share = _within(text, round(float(found["percent"]) / 100, 4), 0.5, 0.999)
    match unit:
        case "x":
            return Guard(text=text, kind=GuardKind.QUANTILE_RATIO, limit=_within(text, value or 0, 1, 1e3), share=share)
        case "ms" | "s":
            limit = (value or 0) / (1_000 if unit == "ms" else 1)
            return Guard(text=text, kind=GuardKind.QUANTILE_S, limit=_within(text, limit, 1e-4, 100), share=share)
        case _:
            raise GuardUnknown(text)


def _number(text: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        raise GuardUnknown(text) from None


def _within(text: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise GuardUnknown(text)
    return value
