"""How many times as often the challenger fails: a ratio of rates that is found after few failures.

Failures are rare, so that their difference says little for a long time; but where arms fail alike, each failure falls
on an arm as requests do. That is a count to be tested like a split (Lindon and Malek, NeurIPS 2022, on Bernoulli and
Poisson processes whose rates change together), whatever makes failures come in bursts on both.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from gateway.comparison.metrics import FAILURE_RATE
from gateway.comparison.statistics import PeriodSums, estimate, likeness_bound, pool
from gateway.comparison.sums import SERVING, Column, Floats

# From a millionth to a million times as often; beyond, nobody asks by how much.
_LOG_RATIOS = np.linspace(-14.0, 14.0, 113)
_HALVINGS = 60


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """Failures and requests of champion and challenger in one period; divide failures by their design effect before."""

    champion: float
    challenger: float
    champion_requests: float
    challenger_requests: float


def failure_ratio(periods: Sequence[PeriodSums], *, alpha: float) -> tuple[float, float]:
    """`rate_ratio_sequence` of sums of the layout SERVING, by cluster: one caller who always fails is one caller."""
    difference = pool([(estimate(FAILURE_RATE, a), estimate(FAILURE_RATE, b)) for a, b in periods])
    effect = likeness_bound(FAILURE_RATE, periods, difference)
    requests, failures = SERVING.index(Column.REQUESTS), SERVING.index(Column.FAILURES)
    return rate_ratio_sequence(
        [
            Failures(
                champion=float(champion[failures].sum()) / effect,
                challenger=float(challenger[failures].sum()) / effect,
                champion_requests=float(champion[requests].sum()),
                challenger_requests=float(challenger[requests].sum()),
            )
            for champion, challenger in periods
        ],
        alpha=alpha,
    )


def rate_ratio_sequence(periods: Sequence[Failures], *, alpha: float) -> tuple[float, float]:
    """The lower and the upper end of the challenger's failure rate over the champion's, at any time.

    A mixture over ratios is set against each single one: the likelihood is that of who failed, given that somebody
    did. 0 and infinity are ends that nothing has been said of yet.
    """
    likelihood = _log_likelihood(periods, _LOG_RATIOS)
    # What a ratio must come to not to be ruled out.
    least = math.log(alpha) + float(np.logaddexp.reduce(likelihood)) - math.log(len(_LOG_RATIOS))
    likeliest = int(likelihood.argmax())
    low, high = _LOG_RATIOS[likeliest], _LOG_RATIOS[likeliest]
    return (
        math.exp(_end(periods, least, inside=low, outside=_LOG_RATIOS[0] - 1)),
        math.exp(_end(periods, least, inside=high, outside=_LOG_RATIOS[-1] + 1)),
    )


def _log_likelihood(periods: Sequence[Failures], log_ratios: Floats) -> Floats:
    total = np.zeros_like(log_ratios)
    for each in periods:
        if each.champion_requests and each.challenger_requests:
            odds = log_ratios + math.log(each.challenger_requests / each.champion_requests)
            total += -each.challenger * np.logaddexp(0.0, -odds) - each.champion * np.logaddexp(0.0, odds)
    return total


def _end(periods: Sequence[Failures], least: float, *, inside: float, outside: float) -> float:
    """Where the likelihood, concave in the ratio's logarithm, falls below *least*; infinitely far if it doesn't."""
    if _log_likelihood(periods, np.array([outside]))[0] >= least:
        return math.copysign(math.inf, outside)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if _log_likelihood(periods, np.array([middle]))[0] >= least:
            inside = middle
        else:
            outside = middle
    return outside
