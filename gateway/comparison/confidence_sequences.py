"""Intervals that hold at all times at once, so that anybody may look whenever they like, and stop when they like.

A confidence interval of 95 % misses the truth at one look in twenty; whoever looks often sees it miss. A confidence
sequence misses at *any* of its looks, taken together, in at most one experiment in twenty.

Three kinds, all made of sums alone, in whatever order things happened:

- The asymptotic one of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv 2103.06476, Theorem 2.2): as narrow as
  such a thing can be, for any mean, once there is enough to apply the central limit theorem to.
- An empirical-Bernstein one of Howard, Ramdas, McAuliffe and Sekhon (Annals of Statistics 49(2), 2021, Theorem 4): for
  values within bounds, true at every size, and wider.
- Robbins's for yes or no: true at every size where the chance stays what it is, and found soonest where it is small.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, xlog1py, xlogy

Floats = NDArray[np.float64]

TUNED_FOR = 5_000
"""Requests at which the asymptotic sequence is narrowest for what it must hold."""


# --- the asymptotic sequence


def mixture_scale(alpha: float, tuned_for: float = TUNED_FOR) -> float:
    """The *r* of the formulas below: the paper's closed form for what is narrowest at *tuned_for* observations."""
    surprise = -2 * math.log(alpha)
    return math.sqrt((surprise + math.log(surprise + 1)) / tuned_for)


def asymptotic_half_width(s2: ArrayLike, n: ArrayLike, *, alpha: float, tuned_for: float = TUNED_FOR) -> Floats:
    """Half the width of the asymptotic confidence sequence of a mean (arXiv 2103.06476, Theorem 2.2).

    *s2* is the variance of one observation, *n* how many there are: `s2 / n` is the variance of the mean. For the
    difference of two means `n` counts both arms, and `s2` is the variance of the difference times `n`. Of any one
    shape; infinite where there is nothing.
    """
    s2, n = np.asarray(s2, dtype=np.float64), np.asarray(n, dtype=np.float64)
    r2 = mixture_scale(alpha, tuned_for) ** 2
    time = n * r2
    with np.errstate(divide="ignore", invalid="ignore"):
        half = np.sqrt(s2) * np.sqrt(2 * (time + 1) * np.log(np.sqrt(time + 1) / alpha) / (n * time))
    return np.where(n > 0, half, np.inf)


def asymptotic_log_evidence(z: ArrayLike, n: ArrayLike, *, alpha: float, tuned_for: float = TUNED_FOR) -> Floats:
    """The log e-value against "the mean is 0", where *z* is the mean over its standard error after *n* observations.

    It reaches `ln(1 / alpha)` exactly where 0 leaves the sequence. `exp(-evidence)`, at most 1, is a p-value that holds
    at any time. The mixture martingale of Robbins (Annals of Mathematical Statistics 41(5), 1970).
    """
    z, time = np.asarray(z, dtype=np.float64), np.asarray(n, dtype=np.float64) * mixture_scale(alpha, tuned_for) ** 2
    evidence: Floats = z**2 * time / (2 * (time + 1)) - np.log1p(time) / 2
    return evidence


# --- the sequence for yes or no

_BISECTIONS = 52


def bernoulli_sequence(n: ArrayLike, successes: ArrayLike, *, alpha: float) -> tuple[Floats, Floats]:
    """The lower and the upper end for the chance of a success; *n* and *successes* of any one shape, or fractions.

    A chance is left out once a mixture over all chances (Jeffreys's prior, Beta(1/2, 1/2)) is `1 / alpha` times as
    likely (Robbins, Annals of Mathematical Statistics 41(5), 1970). The likelihood is concave: an interval is left.
    """
    n, successes = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(successes, dtype=np.float64))
    failures = n - successes
    mixture = betaln(successes + 0.5, failures + 0.5) - betaln(0.5, 0.5)
    likeliest = np.where(n > 0, successes / np.maximum(n, 1e-300), 0.5)

    def end(inside: Floats, outside: Floats) -> Floats:
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            left_out = mixture - xlogy(successes, middle) - xlog1py(failures, -middle) >= -math.log(alpha)
            inside, outside = np.where(left_out, inside, middle), np.where(left_out, middle, outside)
        return outside

    zeros, ones = np.zeros_like(likeliest), np.ones_like(likeliest)
    lower = np.where(successes > 0, end(likeliest, zeros), 0.0)
    upper = np.where(failures > 0, end(likeliest, ones), 1.0)
    return lower, upper


# --- the empirical-Bernstein sequence

# For a value X in [0, 1], any guess g of its mean and any 0 < l < 1, exp(l (X - mean) - psi(l) (X - g)^2), with
# psi(l) = -ln(1 - l) - l, is at most 1 on average (Fan, Grama and Liu 2015; Howard et al., Theorem 4). So the product
# of these over all observations is a wager against the mean that can't be expected to win, and so is any average of
# such wagers over guesses and stakes chosen beforehand. Averaging, where others let the guess follow what was seen, is
# what makes it a function of n, the sum and the sum of squares: those merge, and know no order.
# Denser towards the ends, where values vary less and a guess must be closer to be of use.
_GUESSES = np.sin(np.linspace(0.0, np.pi / 2, 13)) ** 2
_STAKES = np.array([0.75, *(0.5**power for power in range(1, 10))])
_STAKE = np.repeat(_STAKES, len(_GUESSES))
_GUESS = np.tile(_GUESSES, len(_STAKES))
_PRICE = -np.log1p(-_STAKE) - _STAKE
_WAGERS = len(_STAKE)
_NEWTON_STEPS_MAX = 60
# A millionth, which no share is looked at more closely than.
_HALVINGS = 21
_POINTS = np.arange(17) / 16
_SECTIONS = 6


class BoundedSums(msgspec.Struct, frozen=True, eq=False):
    """Sums of values in [0, 1]: how many, their sum, and the sum of their squares. Of one shape, such as (runs,)."""

    n: Floats
    total: Floats
    squares: Floats

    def shrunk(self, factor: Floats | float) -> "BoundedSums":
        """As if there had been *factor* times fewer: what values that come in clusters are worth.

        As in surveys (Korn and Graubard, Survey Methodology 24(2), 1998); a factor of 1 changes nothing.
        """
        return BoundedSums(self.n / factor, self.total / factor, self.squares / factor)

    def mirrored(self) -> "BoundedSums":
        """Of one minus each value."""
        return BoundedSums(self.n, self.n - self.total, self.n - 2 * self.total + self.squares)


def bounded_sums(n: ArrayLike, total: ArrayLike, squares: ArrayLike) -> BoundedSums:
    return BoundedSums(*(np.asarray(each, dtype=np.float64) for each in (n, total, squares)))


def empirical_bernstein(sums: BoundedSums, *, alpha: float) -> tuple[Floats, Floats]:
    """The lower and the upper end of the sequence for the mean of values in [0, 1], each of the shape of the sums.

    It holds the average of the means that the values had, each given what came before, which need not be one and the
    same: a rate that changes in time is held as well.
    """
    lower = _lower_end(sums, math.log(2 / alpha))
    upper = 1 - _lower_end(sums.mirrored(), math.log(2 / alpha))
    return lower, upper


def _lower_end(sums: BoundedSums, enough: float) -> Floats:
    """The largest mean in [0, 1] that the wagers "it is larger" still rule out, else 0.

    Their logarithm is convex and falls with the mean, so Newton's steps from the left never go too far; the best single
    wager, solved for the mean, is such a start.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        single = sums.total[..., None] - (enough + math.log(_WAGERS) + _PRICE * _deviations(sums)) / _STAKE
        mean = np.where(sums.n > 0, single.max(axis=-1) / sums.n, 0.0)
    for _ in range(_NEWTON_STEPS_MAX):
        value, slope = _log_wealth(sums, mean)
        step = np.where(sums.n > 0, (value - enough) / np.where(slope < 0, -slope, np.inf), 0.0)
        mean = mean + step
        if np.all(np.abs(step) < 1e-12):
            break
    return np.clip(mean, 0.0, 1.0)


def _deviations(sums: BoundedSums) -> Floats:
    """The sum of (X - g)^2 for each wager's guess, shape (..., wagers)."""
    n, total, squares = (each[..., None] for each in (sums.n, sums.total, sums.squares))
    deviations: Floats = squares - 2 * _GUESS * total + _GUESS**2 * n
    return deviations


def _log_wealth(sums: BoundedSums, mean: Floats) -> tuple[Floats, Floats]:
    """The logarithm of what the wagers "it is larger" have come to, and its slope: convex and falling in *mean*."""
    terms = _STAKE * (sums.total - sums.n * mean)[..., None] - _PRICE * _deviations(sums)
    largest = terms.max(axis=-1)
    weights = np.exp(terms - largest[..., None])
    total = weights.sum(axis=-1)
    return largest + np.log(total / _WAGERS), -sums.n * (weights @ _STAKE) / total


Arms = tuple[BoundedSums, BoundedSums]
"""Champion and challenger of one period."""


def empirical_bernstein_difference(periods: Sequence[Arms], *, alpha: float) -> tuple[Floats, Floats]:
    """The sequence for the challenger's mean minus the champion's, of values in [0, 1], over all *periods*.

    The arms' wagers are multiplied, which is narrower than the difference of two intervals; so are the periods', each
    with a level of its own, so that a change of the level from one to the next is no difference between arms.
    """
    lower = _lower_difference(periods, math.log(2 / alpha))
    mirrored = [(champion.mirrored(), challenger.mirrored()) for champion, challenger in periods]
    return lower, -_lower_difference(mirrored, math.log(2 / alpha))


def _lower_difference(periods: Sequence[Arms], enough: float) -> Floats:
    """The largest difference that is ruled out as too small, by halving [-1, 1]; -1 if none is."""
    shape = np.broadcast_shapes(*(np.shape(sums.n) for arms in periods for sums in arms))
    ruled_out, open_ = np.full(shape, -1.0), np.full(shape, 1.0)
    for _ in range(_HALVINGS):
        middle = (ruled_out + open_) / 2
        beyond = bernstein_log_evidence(periods, middle) >= enough
        ruled_out, open_ = np.where(beyond, middle, ruled_out), np.where(beyond, open_, middle)
    return ruled_out


def bernstein_log_evidence(periods: Sequence[Arms], difference: ArrayLike) -> Floats:
    """The log e-value against "challenger minus champion is *difference* at most", over all *periods*."""
    evidence: Floats = np.zeros(np.shape(difference))
    for champion, challenger in periods:
        evidence = evidence + _least_wealth(champion.mirrored(), challenger, np.asarray(difference, dtype=np.float64))
    return evidence


def _least_wealth(mirrored_champion: BoundedSums, challenger: BoundedSums, difference: Floats) -> Floats:
    """The logarithm of what both arms' wagers have come to, at the champion's mean at which that is least.

    The level isn't known, so that the wager counts only as far as it wins at any. It is convex in the level: of 17
    levels the best has the least between its neighbours.
    """
    low, width = np.maximum(0.0, -difference), 1.0 - np.abs(difference)
    least = np.full(np.shape(difference), np.inf)
    arms = [
        BoundedSums(*(each[..., None] for each in (arm.n, arm.total, arm.squares)))
        for arm in (mirrored_champion, challenger)
    ]
    for _ in range(_SECTIONS):
        levels = low[..., None] + width[..., None] * _POINTS
        wealth = _log_wealth(arms[0], 1 - levels)[0] + _log_wealth(arms[1], levels + difference[..., None])[0]
        best = np.clip(wealth.argmin(axis=-1), 1, len(_POINTS) - 2)
        least = np.minimum(least, wealth.min(axis=-1))
        low, width = low + width * _POINTS[best - 1], width * 2 * _POINTS[1]
    return least
