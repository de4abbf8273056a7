"""Is the challenger better than the champion? Begin reading here.

The way from sums to a conclusion, all of it functions of values:

1. `estimate`: one arm in one period. A metric's value, and how far each cluster pulls it: `gateway.comparison.metrics`
   says which sums it is made of, `gateway.comparison.sums` how they are kept.
2. `pool`: challenger minus champion within each period, averaged over periods by inverse variance. Only arms that were
   asked at the same time are ever compared, so that a ramp doesn't take a better month for a better model.
3. `compare`: all of that for one metric, with an interval that holds at any time
   (`gateway.comparison.confidence_sequences`).
4. `gateway.comparison.verdict`: better, worse or not yet, unless `gateway.comparison.sample_ratio` says that the arms
   weren't given what the split says. `gateway.comparison.planner` says beforehand how long it takes.

**Time.** Requests go on coming to the same clusters, so there is no row of independent observations to count. What a
sequence needs is less: that the estimate, on the scale of its information (one over its variance), goes about like a
Brownian motion, which is what estimates that gather information do (Jennison and Turnbull, Group Sequential Methods,
chapter 11). So the n of the formulas is not a number of requests but that of independent requests, evenly split, that
would say as much.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np

from gateway.comparison.confidence_sequences import (
    Arms,
    BoundedSums,
    asymptotic_half_width,
    asymptotic_log_evidence,
    empirical_bernstein_difference,
)
from gateway.comparison.metrics import Metric, combine
from gateway.comparison.sums import Floats

ALPHA = 0.05
"""How often an interval may miss at all, over all looks at one comparison together."""
CLUSTERS_MIN = 20
"""Of each arm, with anything in them, below which no variance by cluster is believed."""
INFORMATION_MIN = 50.0
"""Below which bounded metrics are judged by empirical Bernstein: of the scarcer arm, its number of independent requests
times the variance of one on the scale of the bounds. 50 failures where they are rare; 200 labels at an accuracy of
a half.
"""

SHAPING_MIN = 12.0
"""Clusters that must make up a small arm's variance for it to be believed, were they of one size: the square of the
sum of squared pulls over the sum of their fourth powers. Twelve purchases, or a third of the clusters of a bell curve.
"""


class Method(StrEnum):
    ASYMPTOTIC = "asymptotic"
    EMPIRICAL_BERNSTEIN = "empirical_bernstein"
    NONE = "none"
    """Too few clusters to say anything."""


class Estimate(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A metric of one arm in one period. All but *pulls* have the leading shape of the sums: () or (runs,)."""

    value: Floats
    """NaN where nothing was counted."""
    pulls: Floats
    """How far each cluster pulls the value, shape (..., clusters): their squares add up to its variance."""
    n: Floats
    """What the quotient is taken over: labels, requests."""
    spread: Floats
    """The variance of one of them, as if each were of a cluster of its own, times n."""
    clusters: Floats
    """How many clusters have anything in them."""


def estimate(metric: Metric, sums: Floats) -> Estimate:
    """*metric* of one arm in one period, by the jackknife over clusters.

    *sums* has the shape (..., columns of the metric's layout, clusters). Without cluster c the quotient `R = Y / X` is
    another by `(y_c - R x_c) / (X - x_c)`; the squares of these C, times (C - 1) / C, are the variance (Wolter,
    Introduction to Variance Estimation, chapter 4). Over X alone, as linearisation has it, a cluster with most of the
    requests would hardly differ from the quotient that it makes, and the arm would seem to be known.
    """
    above, below = combine(metric.above, sums, metric.layout), combine(metric.below, sums, metric.layout)
    y, x = above.sum(axis=-1), below.sum(axis=-1)
    squares, products, below_squares = (
        combine(part, sums, metric.layout).sum(axis=-1)
        for part in (metric.squares, metric.products, metric.below_squares)
    )
    others = x[..., None] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = y / x
        # A sum of squares, but for rounding.
        spread = np.maximum(squares - 2 * mean * products + mean**2 * below_squares, 0.0)
        pulls = np.where(others > 0, (above - mean[..., None] * below) / others, 0.0)
    return _finished(metric, mean, pulls, x, np.nan_to_num(spread), (below != 0).sum(axis=-1))


def _finished(metric: Metric, mean: Floats, pulls: Floats, n: Floats, spread: Floats, clusters: Floats) -> Estimate:
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = np.sqrt(np.maximum(clusters - 1, 0) / np.maximum(clusters, 1))
        # The slope of the root, where the metric is one.
        slope = np.nan_to_num(1 / (2 * np.sqrt(mean)), posinf=0.0) if metric.root else np.ones_like(mean)
    return Estimate(
        value=np.sqrt(mean) if metric.root else mean,
        pulls=pulls * (correction * slope)[..., None],
        n=n,
        spread=spread * slope**2,
        clusters=clusters,
    )


class Difference(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Challenger minus champion over all periods; all of one shape, () or (runs,)."""

    value: Floats
    """NaN where there is no period in which both were asked."""
    variance: Floats
    """By cluster. Never less than what requests that are all independent would have, and more where one arm is small
    and has hardly shown how its values vary."""
    design_effect: Floats
    """How many times as large as if they were, of what was seen."""
    s2: Floats
    """The variance of the difference for one request, were they independent and evenly split."""
    n: Floats
    """`s2 / variance`: so many such requests would say as much."""
    clusters: Floats
    """Clusters of the arm that has fewer, over the periods the most that any had."""


Period = tuple[Estimate, Estimate]
"""Champion and challenger between two changes of the split."""


def pool(periods: Sequence[Period]) -> Difference:
    """The difference within each period, averaged with weights by inverse variance.

    The weights take the variance of one request to be an arm's own over all periods: taken period by period, one with
    few requests that happen to agree would weigh most. The variance of the average is then taken by cluster over all
    periods at once, as a unit that was asked in two of them is the same unit. Where an arm has too little to say what
    its variance is, the other's counts for it, if that is larger (`_unseen`).
    """
    spreads = [_common_spread(arm) for arm in zip(*periods, strict=True)]
    weights = _weights(periods, spreads)
    comparable = weights.sum(axis=0) > 0
    value = sum(weight * np.nan_to_num(b.value - a.value) for weight, (a, b) in zip(weights, periods, strict=True))
    pulls = [_pooled_pulls(arm, weights) for arm in zip(*periods, strict=True)]
    independent = sum(
        weight**2 * sum(each.spread / np.maximum(each.n, 1) ** 2 for each in period)
        for weight, period in zip(weights, periods, strict=True)
    )
    seen = np.maximum(((pulls[1] - pulls[0]) ** 2).sum(axis=-1), independent)
    return _difference(
        periods,
        value=np.where(comparable, value, np.nan),
        seen=np.where(comparable, seen, np.inf),
        unseen=_unseen(pulls, [_worth(arm, weights) for arm in zip(*periods, strict=True)]),
        independent=np.asarray(independent),
        s2=2 * (spreads[0] + spreads[1]),
    )


def _pooled_pulls(arm: Sequence[Estimate], weights: Floats) -> Floats:
    """How far each cluster pulls the average over all periods, shape (..., clusters)."""
    parts = [weight[..., None] * each.pulls for weight, each in zip(weights, arm, strict=True)]
    pulls: Floats = np.sum(parts, axis=0)
    return pulls


def _worth(arm: Sequence[Estimate], weights: Floats) -> Floats:
    """Of how many requests the arm's part of the average is the mean; 0 if there are none."""
    errors = [weight**2 / np.maximum(each.n, 1) for weight, each in zip(weights, arm, strict=True)]
    error = np.sum(errors, axis=0)
    return np.where(error > 0, 1 / np.where(error > 0, error, 1.0), 0.0)


def _unseen(pulls: Sequence[Floats], worth: Sequence[Floats]) -> Floats:
    """What is added to the variance for the arm with fewer requests, while few clusters make up all of its own.

    Of values that are rarely large, such as one purchase in a hundred visits, a small arm has seen none or few, and
    would seem to be known. Two arms that are alike have a variance of the same size for each request.
    """
    own = [(arm**2).sum(axis=-1) for arm in pulls]
    fewer = worth[1] < worth[0]
    small, large = np.where(fewer, own[1], own[0]), np.where(fewer, own[0], own[1])
    fourth = np.where(fewer, (pulls[1] ** 4).sum(axis=-1), (pulls[0] ** 4).sum(axis=-1))
    ratio = np.maximum(worth[0], worth[1]) / np.maximum(np.minimum(worth[0], worth[1]), 1.0)
    lacks: Floats = np.maximum(large * ratio - small, 0.0)
    unseen: Floats = np.where(small**2 <= SHAPING_MIN * fourth, lacks, 0.0)
    return unseen


def _weights(periods: Sequence[Period], spreads: Sequence[Floats]) -> Floats:
    """Of each period, shape (periods, ...): they add up to 1, or are 0 where there is nothing to compare."""
    variances = np.stack([_independent_variance(period, spreads) for period in periods])
    informations = np.where(variances > 0, 1 / np.where(variances > 0, variances, 1.0), 0.0)
    # Where no request differs from another there is nothing to go by but their number.
    informations = np.where(informations.sum(axis=0) > 0, informations, _evenness(periods))
    total = informations.sum(axis=0)
    return informations / np.where(total > 0, total, 1.0)


def _common_spread(estimates: Sequence[Estimate]) -> Floats:
    """The variance of one request of an arm, over all its periods."""
    n = np.sum([each.n for each in estimates], axis=0)
    common: Floats = np.sum([each.spread for each in estimates], axis=0) / np.maximum(n, 1)
    return common


def _independent_variance(period: Period, spreads: Sequence[Floats]) -> Floats:
    """Of a period's difference, were all requests independent; infinite where one of the arms has none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = sum(spread / each.n for spread, each in zip(spreads, period, strict=True))
    both = (period[0].n > 0) & (period[1].n > 0)
    return np.where(both, variance, np.inf)


def _evenness(periods: Sequence[Period]) -> Floats:
    """The arms' numbers multiplied, over their sum: what a period's difference is worth, whatever is counted."""
    return np.stack([a.n * b.n / np.maximum(a.n + b.n, 1) for a, b in periods])


def _difference(
    periods: Sequence[Period], *, value: Floats, seen: Floats, unseen: Floats, independent: Floats, s2: Floats
) -> Difference:
    champions, challengers = (np.max([each.clusters for each in arm], axis=0) for arm in zip(*periods, strict=True))
    known, variance = np.isfinite(seen) & (independent > 0), seen + unseen
    return Difference(
        value=value,
        variance=variance,
        design_effect=np.where(known, seen, 1.0) / np.where(known, independent, 1.0),
        s2=s2,
        n=np.where(variance > 0, s2 / np.where(variance > 0, variance, 1.0), 0.0),
        clusters=np.minimum(champions, challengers),
    )


class Interval(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Where the difference lies, whenever one looks: wrong at any look in at most *alpha* of the comparisons."""

    lower: Floats
    upper: Floats
    alpha: float
    method: Method


def asymptotic_interval(difference: Difference, *, alpha: float = ALPHA) -> Interval:
    """By the asymptotic confidence sequence; of the difference's shape, infinite where clusters are too few."""
    half = asymptotic_half_width(difference.s2, difference.n, alpha=alpha)
    half = np.where((difference.clusters >= CLUSTERS_MIN) & np.isfinite(difference.value), half, np.inf)
    value = np.nan_to_num(difference.value)
    return Interval(lower=value - half, upper=value + half, alpha=alpha, method=Method.ASYMPTOTIC)


def p_value(difference: Difference, *, alpha: float = ALPHA) -> Floats:
    """Of "there is no difference", at any time; below *alpha* exactly where 0 is outside the asymptotic interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.nan_to_num(difference.value / np.sqrt(difference.variance))
    p: Floats = np.exp(-np.maximum(asymptotic_log_evidence(z, difference.n, alpha=alpha), 0.0))
    return np.where(difference.clusters >= CLUSTERS_MIN, p, 1.0)


class Comparison(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One metric of champion and challenger, for people to see and for `gateway.comparison.verdict` to judge."""

    metric: str
    champion: float
    """Over all periods, as is `challenger`; NaN where there is nothing. Not to be subtracted: see `difference`."""
    challenger: float
    champion_n: float
    challenger_n: float
    difference: float
    """Within periods, pooled."""
    interval: Interval
    p_value: float
    """By the asymptotic sequence; 1 while another one judges."""
    design_effect: float
    clusters: int


PeriodSums = tuple[Floats, Floats]
"""Sums of champion and challenger, each of shape (columns of a metric's layout, clusters)."""


def compare(metric: Metric, periods: Sequence[PeriodSums], *, alpha: float = ALPHA) -> Comparison:
    """Compare by *metric* over all *periods*, of which there must be one at least.

    Bounded metrics are judged by empirical Bernstein until there is information enough (`INFORMATION_MIN`), as counts
    of clusters or of rare events are no bell curve before.
    """
    estimates = [(estimate(metric, champion), estimate(metric, challenger)) for champion, challenger in periods]
    difference = pool(estimates)
    overall = [estimate(metric, np.sum(arm, axis=0)) for arm in zip(*periods, strict=True)]
    interval = _interval(metric, periods, estimates, difference, alpha=alpha)
    judged = interval.method is Method.ASYMPTOTIC
    return Comparison(
        metric=metric.name,
        champion=float(overall[0].value),
        challenger=float(overall[1].value),
        champion_n=float(overall[0].n),
        challenger_n=float(overall[1].n),
        difference=float(difference.value),
        interval=interval,
        p_value=float(p_value(difference, alpha=alpha)) if judged else 1.0,
        design_effect=float(difference.design_effect),
        clusters=int(difference.clusters),
    )


def _interval(
    metric: Metric, periods: Sequence[PeriodSums], estimates: Sequence[Period], difference: Difference, *, alpha: float
) -> Interval:
    if metric.bounds is not None and _scarcest_information(metric.bounds, estimates, difference) < INFORMATION_MIN:
        return _bernstein_interval(metric, metric.bounds, periods, difference, alpha=alpha)
    interval = asymptotic_interval(difference, alpha=alpha)
    return interval if np.isfinite(interval.lower) else msgspec.structs.replace(interval, method=Method.NONE)


Bounds = tuple[float, float]


def _scarcest_information(bounds: Bounds, estimates: Sequence[Period], difference: Difference) -> float:
    """Of the arm that has less: the sum of squared deviations on the scale of the bounds, in independent requests."""
    deviations = (sum(float(each.spread) for each in arm) for arm in zip(*estimates, strict=True))
    return min(deviations) / (bounds[1] - bounds[0]) ** 2 / float(difference.design_effect)


def _bernstein_interval(
    metric: Metric, bounds: Bounds, periods: Sequence[PeriodSums], difference: Difference, *, alpha: float
) -> Interval:
    width = bounds[1] - bounds[0]
    effect = likeness_bound(metric, periods, difference)
    arms: list[Arms] = [
        (_bounded(metric, bounds, champion).shrunk(effect), _bounded(metric, bounds, challenger).shrunk(effect))
        for champion, challenger in periods
    ]
    lower, upper = empirical_bernstein_difference(arms, alpha=alpha)
    return Interval(lower=lower * width, upper=upper * width, alpha=alpha, method=Method.EMPIRICAL_BERNSTEIN)


def likeness_bound(metric: Metric, periods: Sequence[PeriodSums], difference: Difference) -> float:
    """By how much to divide the counts of requests that come in clusters: the design effect.

    Where an arm has too few clusters to tell by, all requests of a cluster are taken to say one thing.
    """
    if difference.clusters >= CLUSTERS_MIN:
        return float(difference.design_effect)
    asked = [combine(metric.below, np.sum(arm, axis=0), metric.layout) for arm in zip(*periods, strict=True)]
    alike = [float(counts.sum()) / max(int(np.count_nonzero(counts)), 1) for counts in asked]
    return max(*alike, float(difference.design_effect))


def _bounded(metric: Metric, bounds: Bounds, sums: Floats) -> BoundedSums:
    """An arm's sums, with its values brought to [0, 1]."""
    low, width = bounds[0], bounds[1] - bounds[0]
    n, total, squares = (
        combine(part, sums, metric.layout).sum(axis=-1) for part in (metric.below, metric.above, metric.squares)
    )
    return BoundedSums(n, (total - low * n) / width, (squares - 2 * low * total + low**2 * n) / width**2)
