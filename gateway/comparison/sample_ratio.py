"""Was the traffic split as it should have been? If not, no difference between the arms means anything.

What is tested is how requests fall on the arms, and there are two kinds of them.

- Requests **without a unit** are each assigned by themselves, so that counts are multinomial to the letter: the
  sequential test of Lindon and Malek (Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022).
- Requests **of units** go where the unit goes, so that one busy caller is not a mismatch. Which buckets an arm owns is
  known; what is tested is that one of its buckets is asked as often as one of the other's, by cluster, with the
  asymptotic sequence. The number of distinct units would need a table of them.

Each has half of the error; both hold at any time, and over periods with different shares.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, gammaln

from gateway.comparison.statistics import Estimate, p_value, pool
from gateway.comparison.sums import Floats

ALPHA = 0.01
"""How often a split that is right may be called wrong at all. Rarer than for metrics: it stops everything."""
_PRIOR_REQUESTS = 1_000.0
"""What the prior of the shares is worth in requests: of the size of deviations that are worth finding. The more, the
smaller those that are found soonest."""


class SplitSums(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One period of champion and challenger; the second axis of each array is the cluster, the first the arm."""

    requests: Floats
    """Those assigned by the split, shape (2, clusters): no forced, shadow or fallback answers."""
    unitless: Floats
    """Those of them without a unit, shape (2, clusters)."""
    buckets: Floats
    """How many buckets each owns in each cluster (`sums.buckets_by_cluster`), shape (2, clusters)."""


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """What the test says now."""

    asked: float
    """The challenger's share of both arms' requests by the split, over all periods."""
    observed: float
    """NaN if there were none."""
    p_value: float
    """Holds at any time."""
    mismatch: bool


def sample_ratio(periods: Sequence[SplitSums], *, alpha: float = ALPHA) -> SampleRatio:
    """Test the assignment over all *periods*.

    A p-value only ever counts as its least so far (whoever looks keeps it); a mismatch once found stays one.
    """
    p_unitless = float(np.exp(-max(0.0, _unitless_evidence(periods))))
    p_units = float(_units_p(periods, alpha=alpha / 2))
    p = min(1.0, 2 * min(p_unitless, p_units))
    requests = sum((period.requests.sum(axis=-1) for period in periods), start=np.zeros(2))
    asked = sum(period.requests.sum() * _shares(period)[1] for period in periods)
    total = float(requests.sum())
    return SampleRatio(
        asked=float(asked) / total if total else float(_shares(periods[-1])[1]),
        observed=float(requests[1]) / total if total else np.nan,
        p_value=p,
        mismatch=p < alpha,
    )


def multinomial_log_evidence(
    counts: ArrayLike, shares: ArrayLike, *, prior_requests: float = _PRIOR_REQUESTS
) -> Floats:
    """The logarithm of the Bayes factor against *shares*, an e-value: `exp(-it)` is a p-value at any time.

    *counts* has the shape (..., arms), *shares* (arms,) and adds up to 1. The alternative is a Dirichlet distribution
    around the shares (Lindon and Malek, section 3): `B(a + x) / B(a) / prod(share^x)`, with
    `a = prior_requests * share`.
    """
    counts, shares = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    prior = prior_requests * shares
    with np.errstate(divide="ignore", invalid="ignore"):
        # An arm of no share that is asked all the same is as wrong as can be.
        surprise = np.where(counts > 0, counts * -np.log(shares), 0.0)
        gained = np.where(shares > 0, gammaln(prior + counts) - gammaln(np.where(shares > 0, prior, 1.0)), 0.0)
    total = gammaln(prior_requests) - gammaln(prior_requests + counts.sum(axis=-1))
    evidence: Floats = total + gained.sum(axis=-1) + surprise.sum(axis=-1)
    return evidence


def chi_square_p(counts: ArrayLike, shares: ArrayLike) -> float:
    """The classic p-value of Pearson's test, of arms that have a share.

    It holds at one look that was planned beforehand, and is shown beside.
    """
    counts, shares = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    expected = shares * counts.sum()
    # Not by scipy.stats, which takes 70 MiB to import, in each worker.
    return float(chdtrc(counts.size - 1, ((counts - expected) ** 2 / expected).sum()))


def _shares(period: SplitSums) -> Floats:
    owned = period.buckets.sum(axis=-1)
    shares: Floats = owned / owned.sum()
    return shares


def _unitless_evidence(periods: Sequence[SplitSums]) -> float:
    # The product of e-values of different requests is one.
    return sum(float(multinomial_log_evidence(each.unitless.sum(axis=-1), _shares(each))) for each in periods)


def _units_p(periods: Sequence[SplitSums], *, alpha: float) -> Floats:
    return p_value(pool([(_activity(period, 0), _activity(period, 1)) for period in periods]), alpha=alpha)


def _activity(period: SplitSums, arm: int) -> Estimate:
    """Requests of units for each bucket of *arm*, relative to both arms', with Poisson's variance at least."""
    asked, owned = period.requests - period.unitless, period.buckets
    rate = np.maximum(asked.sum(), 1.0) / owned.sum()
    expected = owned[arm].sum() * rate
    own_rate = asked[arm].sum() / np.maximum(owned[arm].sum(), 1.0)
    clusters = (owned[arm] > 0).sum(dtype=np.float64)
    correction = np.sqrt(clusters / np.maximum(clusters - 1, 1))
    return Estimate(
        value=own_rate / rate,
        pulls=correction * (asked[arm] - own_rate * owned[arm]) / np.maximum(expected, 1e-300),
        n=expected if asked.sum() > 0 else np.zeros(()),
        spread=expected,
        clusters=clusters,
    )
