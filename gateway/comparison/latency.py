"""What histograms of latency say: quantiles, and whether one is larger than another, at any time."""

import msgspec
import numpy as np

from gateway.comparison.confidence_sequences import bernoulli_sequence
from gateway.comparison.latency_counts import BOUNDS_S, Counts


class Quantile(msgspec.Struct, frozen=True):
    """Between which times a quantile lies, whenever one looks."""

    lower_s: float
    upper_s: float


def quantile_sequence(counts: Counts, share: float, *, alpha: float, design_effect: float = 1.0) -> Quantile:
    """The time within which *share* of such requests are answered, as an interval that holds at any time.

    How many are within a bound is a share like any other, so the quantile is above every bound within which too few
    are, and below every one within which enough are. Only the bound at the true quantile has to be right for that, so
    that nothing is paid for looking at all of them (Howard and Ramdas, Bernoulli 28(3), 2022).
    """
    within = np.cumsum(counts[:-1]).astype(np.float64)
    n = np.full_like(within, counts.sum())
    lower, upper = bernoulli_sequence(n / design_effect, within / design_effect, alpha=alpha)
    too_few, enough = np.flatnonzero(upper < share), np.flatnonzero(lower >= share)
    return Quantile(
        lower_s=float(BOUNDS_S[too_few[-1]]) if too_few.size else 0.0,
        upper_s=float(BOUNDS_S[enough[0]]) if enough.size else float("inf"),
    )


def quantile_ratio(
    champion: Counts, challenger: Counts, share: float, *, alpha: float, design_effect: float = 1.0
) -> tuple[float, float]:
    """How many times the champion's quantile the challenger's is, as an interval that holds at any time.

    Histograms know no clusters. Where some units' requests are all slow, give the *design_effect* of `slow_rate`.

    A guard `p99=1.2x` is broken once the lower end is above 1.2, and kept once the upper end isn't. Each arm gets half
    of the error: latencies of one machine move together, so nothing is assumed of one arm given the other.
    """
    ours, theirs = (
        quantile_sequence(counts, share, alpha=alpha / 2, design_effect=design_effect)
        for counts in (challenger, champion)
    )
    lower = ours.lower_s / theirs.upper_s if np.isfinite(theirs.upper_s) else 0.0
    upper = ours.upper_s / theirs.lower_s if theirs.lower_s > 0 else float("inf")
    return lower, upper
