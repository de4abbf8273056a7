"""What is concluded: better, worse, or not yet; and why."""

import math
from enum import StrEnum

import msgspec

from gateway.comparison.metrics import Better
from gateway.comparison.sample_ratio import SampleRatio
from gateway.comparison.statistics import Interval, Method


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    NOT_YET = "not_yet"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict on the challenger, by one metric."""

    verdict: Verdict
    reason: str
    alike: bool = False
    """No difference of the minimal effect is left to be found, either way: waiting longer won't change the verdict."""
    locked: bool = False
    """The split observed isn't the split asked for, so that no verdict is given."""


def judge(better: Better, interval: Interval, ratio: SampleRatio, *, minimal_effect: float = 0.0) -> Judgement:
    """Judge by the whole *interval* for the challenger's metric minus the champion's.

    *minimal_effect* is what a difference must be shown to exceed, in the metric's unit, to be of interest.
    """
    if ratio.mismatch:
        return Judgement(verdict=Verdict.NOT_YET, reason=_mismatch(ratio), locked=True)
    least, most = sorted((better.sign * float(interval.lower), better.sign * float(interval.upper)))
    said = _said(interval)
    if least > minimal_effect:
        return Judgement(verdict=Verdict.BETTER, reason=said)
    if most < -minimal_effect:
        return Judgement(verdict=Verdict.WORSE, reason=said)
    alike = -minimal_effect <= least and most <= minimal_effect
    return Judgement(verdict=Verdict.NOT_YET, reason=_undecided(interval, minimal_effect, alike=alike), alike=alike)


def _said(interval: Interval) -> str:
    share = f"{100 * (1 - interval.alpha):.4g}%"
    lower, upper = float(interval.lower), float(interval.upper)
    return f"the difference is between {lower:+.4g} and {upper:+.4g} ({share}, at any time)"


def _undecided(interval: Interval, minimal_effect: float, *, alike: bool) -> str:
    if interval.method is Method.NONE or not math.isfinite(float(interval.lower)):
        return "too few clusters of units have been seen in one of the arms, or no value differs from another"
    if alike:
        return f"{_said(interval)}: no difference of {minimal_effect:g} is left to be found"
    what = f"whether there is a difference of {minimal_effect:g}" if minimal_effect else "better from worse"
    return f"too early to tell {what}: {_said(interval)}"


def _mismatch(ratio: SampleRatio) -> str:
    return (
        f"locked: the challenger was given {ratio.observed:.2%} of the requests where the split says {ratio.asked:.2%} "
        f"(p = {ratio.p_value:.2g}); find out why before believing any difference"
    )
