"""How often comparisons are wrong, and how soon they are right, in simulated traffic: `python -m loadtests.comparison`.

Everything is drawn from a seed, so that the figures are the same each time; tests hold them to what docs/comparison.md
promises. *Runs* are simulated side by side, as the leading axis of every array.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gateway.comparison.confidence_sequences import (
    Floats,
    asymptotic_half_width,
    bernoulli_sequence,
    bernstein_log_evidence,
    bounded_sums,
    empirical_bernstein,
)
from gateway.comparison.latency import quantile_ratio
from gateway.comparison.latency_counts import BOUNDS_S, no_requests
from gateway.comparison.metrics import ACCURACY
from gateway.comparison.planner import Plan, plan_rates
from gateway.comparison.rates import Failures, rate_ratio_sequence
from gateway.comparison.sample_ratio import ALPHA as SPLIT_ALPHA
from gateway.comparison.sample_ratio import SplitSums, multinomial_log_evidence, sample_ratio
from gateway.comparison.statistics import (
    ALPHA,
    INFORMATION_MIN,
    Interval,
    Period,
    asymptotic_interval,
    estimate,
    pool,
)
from gateway.comparison.sums import CLUSTERS, Column, buckets_by_cluster
from loadtests.tables import heading, line

SEED = 20_261_123
_BUCKETS = 10_000
_TWO_SUMS = msgspec.structs.replace(ACCURACY, layout=(Column.LABELS, Column.CORRECT))


# --- two arms of independent requests


class Looks(msgspec.Struct, frozen=True, eq=False):
    """Right answers of each arm at each look, shape (2, runs, looks), of *n* requests of each, shape (looks,)."""

    right: Floats
    n: Floats


def independent_requests(
    rates: tuple[float, float], *, n: int, every: int = 50, runs: int = 2_000, seed: int = SEED
) -> Looks:
    """Two arms with *n* requests each, looked at after each *every*."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.binomial(every, rate, (runs, n // every)) for rate in rates])
    return Looks(drawn.cumsum(axis=-1).astype(np.float64), np.arange(1, n // every + 1, dtype=np.float64) * every)


def _differences(looks: Looks) -> tuple[Floats, Floats]:
    """The difference of the rates, and the variance of one request's, both (runs, looks)."""
    rate = looks.right / looks.n
    return rate[1] - rate[0], 2 * (rate * (1 - rate)).sum(axis=0)


def sequence_alarms(looks: Looks, *, alpha: float = ALPHA) -> float:
    """The share of runs in which the asymptotic sequence leaves 0 out at some look."""
    difference, s2 = _differences(looks)
    # A variance of 0 is one that hasn't been seen yet.
    half = np.where(s2 > 0, asymptotic_half_width(s2, np.broadcast_to(2 * looks.n, s2.shape), alpha=alpha), np.inf)
    return float((np.abs(difference) > half).any(axis=-1).mean())


def naive_alarms(looks: Looks, *, alpha: float = ALPHA, corrected: bool = True) -> float:
    """The same of the chi-square test that is made for one look, with or without Yates's correction.

    `scipy.stats.chi2_contingency` corrects unless told otherwise, so that is what people look at.
    """
    difference, _ = _differences(looks)
    rate = looks.right.mean(axis=0) / looks.n
    error = np.sqrt(2 * rate * (1 - rate) / looks.n)
    distance = np.abs(difference) - (1 / looks.n if corrected else 0.0)
    return float((distance > norm.ppf(1 - alpha / 2) * error).any(axis=-1).mean())


def found_by(plan: Plan, rates: tuple[float, float], *, every: int = 50, runs: int = 2_000) -> float:
    """The share of runs in which a difference is seen at *plan*'s size or before."""
    return sequence_alarms(independent_requests(rates, n=plan.requests // 2, every=every, runs=runs))


def handover_alarms(rate: float, *, n: int = 10_000, runs: int = 1_000, seed: int = SEED) -> float:
    """False alarms where empirical Bernstein judges until there is enough to go by, and the asymptotic one after it."""
    looks = independent_requests((rate, rate), n=n, runs=runs, seed=seed)
    difference, s2 = _differences(looks)
    share = looks.right / looks.n
    enough = (looks.n * share * (1 - share)).min(axis=0) >= INFORMATION_MIN
    half = np.where(enough, asymptotic_half_width(s2, np.broadcast_to(2 * looks.n, s2.shape), alpha=ALPHA), np.inf)
    late = (np.abs(difference) > half).any(axis=-1)
    return float((late | _bernstein_leaves_none_out(looks, ~enough)).mean())


def _bernstein_leaves_none_out(looks: Looks, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether 0 is left out at any look at which it is *asked*, of shape (runs,). Every tenth look."""
    found = np.zeros(looks.right.shape[1], dtype=np.bool_)
    for look in range(0, looks.n.size, 10):
        runs = np.flatnonzero(asked[:, look] & ~found)
        arms = [bounded_sums(np.full(runs.size, looks.n[look]), *[right[runs, look]] * 2) for right in looks.right]
        for first, second in (arms, arms[::-1]):
            evidence = bernstein_log_evidence([(first, second)], np.zeros(runs.size))
            found[runs[evidence >= np.log(2 / ALPHA)]] = True
    return found


def bernstein_alarms(rate: float, *, n: int = 10_000, every: int = 25, runs: int = 500, seed: int = SEED) -> float:
    """False alarms of the empirical-Bernstein sequence for a difference."""
    looks = independent_requests((rate, rate), n=n, every=every, runs=runs, seed=seed)
    return float(_bernstein_leaves_none_out(looks, np.ones(looks.right.shape[1:], dtype=np.bool_)).mean())


def bernstein_misses(values: Floats, mean: float, *, every: int = 50) -> float:
    """How often the sequence for one mean leaves it out; *values* in [0, 1], shape (runs, observations)."""
    n = np.arange(every, values.shape[1] + 1, every)
    total, squares = (np.cumsum(each, axis=-1)[:, n - 1] for each in (values, values**2))
    lower, upper = empirical_bernstein(bounded_sums(np.broadcast_to(n, total.shape), total, squares), alpha=ALPHA)
    return float(((lower > mean) | (upper < mean)).any(axis=-1).mean())


def bernoulli_misses(chance: float, *, n: int = 10_000, every: int = 50, runs: int = 1_000) -> float:
    """How often the sequence for yes or no leaves the chance out."""
    right = np.random.default_rng(SEED).binomial(every, chance, (runs, n // every)).cumsum(axis=-1)
    lower, upper = bernoulli_sequence(np.arange(1, n // every + 1) * every, right, alpha=ALPHA)
    return float(((lower > chance) | (upper < chance)).any(axis=-1).mean())


# --- sticky units, clusters, ramps


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Units that ask again and again, of which some are busier, and some more often right, than others."""

    shares: tuple[float, ...] = (0.5,)
    """The challenger's share in each period."""
    looks_each: int = 20
    units: int = 1_500
    requests_each: float = 0.4
    """Requests of a unit between two looks, on average."""
    busyness: float = 1.0
    """Standard deviation of the logarithm of how busy a unit is."""
    busiest: float = 0.0
    """Requests of the first unit, over those of all others together; 0: it is like them."""
    odds: float = 0.0
    """The usual log-odds to be right."""
    likeness: float = 1.5
    """Standard deviation of a unit's log-odds to be right."""
    trend: float = 0.0
    """What is added to everybody's log-odds from the first look to the last."""
    effect: float = 0.0
    """What the challenger adds to everybody's log-odds."""
    runs: int = 300


ONE_BUSY_CALLER = World(busiest=9.0, units=3_000, runs=100)
RARE_REWARDS = World(shares=(0.05,), units=6_000, requests_each=0.1, odds=-4.6, likeness=0.0, runs=100)


def traffic(world: World, seed: int = SEED) -> Iterator[list[tuple[Floats, Floats]]]:
    """At each look the sums of both arms in each period so far, (runs, labels and right ones, clusters)."""
    rng = np.random.default_rng(seed)
    shape = (world.runs, world.units)
    buckets = rng.integers(0, _BUCKETS, shape)
    places = np.arange(world.runs)[:, None] * CLUSTERS + buckets % CLUSTERS
    busy = world.requests_each * np.exp(world.busyness * (rng.standard_normal(shape) - world.busyness / 2))
    if world.busiest:
        busy[:, 0] = world.busiest * busy[:, 1:].sum(axis=-1)
    odds = world.odds + world.likeness * rng.standard_normal(shape)
    periods: list[tuple[Floats, Floats]] = []
    looks = len(world.shares) * world.looks_each
    for look in range(looks):
        if look % world.looks_each == 0:
            challenged = buckets < world.shares[look // world.looks_each] * _BUCKETS
            periods = [*periods, (_nothing(world), _nothing(world))]
        asked = rng.poisson(busy)
        rate = 1 / (1 + np.exp(-(odds + world.trend * look / looks + world.effect * challenged)))
        right = rng.binomial(asked, rate)
        for sums, of_arm in zip(periods[-1], (~challenged, challenged), strict=True):
            for row, counts in enumerate((asked, right)):
                added = np.bincount(places.ravel(), (counts * of_arm).ravel(), world.runs * CLUSTERS)
                sums[:, row] += added.reshape(world.runs, CLUSTERS)
        yield periods


def _nothing(world: World) -> Floats:
    return np.zeros((world.runs, 2, CLUSTERS))


class Alarms(msgspec.Struct, frozen=True, kw_only=True):
    """The share of runs in which a difference is claimed at some look."""

    by_cluster: float
    by_request: float
    """As if all requests were independent."""
    not_pooled: float
    """By cluster, but with all periods thrown together."""


def alarms(world: World, *, seed: int = SEED) -> Alarms:
    """Look at all of a *world*'s looks."""
    found = np.zeros((3, world.runs), dtype=np.bool_)
    closed: list[Period] = []
    for periods in traffic(world, seed):
        closed = closed[: len(periods) - 1]
        closed += [_estimates(period) for period in periods[len(closed) : -1]]
        difference = pool([*closed, _estimates(periods[-1])])
        found[0] |= _none_left_out(asymptotic_interval(difference))
        independent = msgspec.structs.replace(difference, n=difference.n * difference.design_effect)
        found[1] |= _none_left_out(asymptotic_interval(independent))
        thrown_together = [sum(arm[1:], start=arm[0]) for arm in zip(*periods, strict=True)]
        found[2] |= _none_left_out(asymptotic_interval(pool([_estimates((thrown_together[0], thrown_together[1]))])))
    return Alarms(**dict(zip(Alarms.__struct_fields__, found.mean(axis=-1).tolist(), strict=True)))


def _none_left_out(interval: Interval) -> NDArray[np.bool_]:
    return (interval.lower > 0) | (interval.upper < 0)


def _estimates(period: tuple[Floats, Floats]) -> Period:
    champion, challenger = (estimate(_TWO_SUMS, sums) for sums in period)
    return champion, challenger


# --- the split itself


def multinomial_alarms(
    shares: Sequence[float], asked: Sequence[float], *, n: int = 20_000, every: int = 50, runs: int = 2_000
) -> float:
    """How often requests without a unit, that fall by *shares*, are said at some look not to fall as *asked*."""
    rng = np.random.default_rng(SEED)
    counts = rng.multinomial(every, shares, (runs, n // every)).cumsum(axis=1)
    evidence = multinomial_log_evidence(counts, asked)
    return float((evidence >= -np.log(SPLIT_ALPHA)).any(axis=-1).mean())


class SplitAlarms(msgspec.Struct, frozen=True, kw_only=True):
    """The share of runs in which the split is called wrong at some look."""

    by_cluster: float
    by_request: float
    """By the multinomial test, as if each request had been assigned by itself."""


def split_alarms(world: World, *, lost: float = 0.0, seed: int = SEED) -> SplitAlarms:
    """Of units, of which the challenger loses the share *lost* of requests on their way to be counted."""
    owned = [_owned(share) for share in world.shares]
    found = np.zeros((2, world.runs), dtype=np.bool_)
    for periods in traffic(world, seed):
        requests = [np.stack([champion[:, 0], challenger[:, 0] * (1 - lost)]) for champion, challenger in periods]
        for run in np.flatnonzero(~found[0]):
            sums = [
                SplitSums(requests=each[:, run], unitless=np.zeros_like(buckets), buckets=buckets)
                for each, buckets in zip(requests, owned, strict=False)
            ]
            found[0, run] = sample_ratio(sums).mismatch
        evidence = sum(
            multinomial_log_evidence(each.sum(axis=-1).T, [1 - share, share])
            for each, share in zip(requests, world.shares, strict=False)
        )
        found[1] |= evidence >= -np.log(SPLIT_ALPHA)
    return SplitAlarms(by_cluster=float(found[0].mean()), by_request=float(found[1].mean()))


def _owned(share: float) -> Floats:
    """Buckets of champion and challenger in each cluster, the challenger's being the lowest."""
    owners = ["challenger"] * round(share * _BUCKETS) + ["champion"] * round((1 - share) * _BUCKETS)
    return np.stack([buckets_by_cluster(owners, arm) for arm in ("champion", "challenger")])


# --- failures


def failure_alarms(
    rates: tuple[float, float], *, share: float = 0.05, every: int = 100, looks: int = 200, runs: int = 500
) -> tuple[float, float]:
    """How often the ratio of failures leaves 1 out at some look, and after how many of the challenger's requests."""
    rng = np.random.default_rng(SEED)
    challengers = rng.binomial(every, share, (runs, looks)).cumsum(axis=-1)
    asked = np.stack([np.arange(1, looks + 1) * every - challengers, challengers])
    each = np.diff(asked, axis=-1, prepend=0)
    failed = np.stack([rng.binomial(n, rate) for n, rate in zip(each, rates, strict=True)]).cumsum(axis=-1)
    until = [_first_alarm(asked[:, run], failed[:, run]) for run in range(runs)]
    found = [n for n in until if n is not None]
    return len(found) / runs, float(np.median(found)) if found else float("nan")


def _first_alarm(asked: NDArray[np.int64], failed: NDArray[np.int64]) -> int | None:
    """The challenger's requests at the first look at which it fails surely more, or less, often; None if there is none.

    Only looks before which somebody failed can say anything new.
    """
    for look in np.flatnonzero(np.diff(failed.sum(axis=0), prepend=0)):
        failures = Failures(
            champion=failed[0, look],
            challenger=failed[1, look],
            champion_requests=asked[0, look],
            challenger_requests=asked[1, look],
        )
        lower, upper = rate_ratio_sequence([failures], alpha=ALPHA)
        if lower > 1 or upper < 1:
            return int(asked[1, look])
    return None


# --- latency


def latency_alarms(
    times: float, *, limit: float = 1.2, share: float = 0.05, every: int = 500, looks: int = 60, runs: int = 200
) -> tuple[float, float]:
    """How often a challenger that takes *times* as long is surely over *limit* times the champion's p99, and when.

    Latencies are log-normal with a spread of 0.5; when is a median of the challenger's requests.
    """
    rng = np.random.default_rng(SEED)
    until = []
    for _ in range(runs):
        counts = np.zeros((2, no_requests().size), dtype=np.int64)
        for _ in range(looks):
            challenged = int(rng.binomial(every, share))
            for arm, (n, factor) in enumerate(((every - challenged, 1.0), (challenged, times))):
                seconds = 0.01 * factor * np.exp(0.5 * rng.standard_normal(n))
                counts[arm] += np.bincount(np.searchsorted(BOUNDS_S, seconds), minlength=counts.shape[1])
            if quantile_ratio(counts[0], counts[1], 0.99, alpha=ALPHA)[0] > limit:
                until.append(counts[1].sum())
                break
    return len(until) / runs, float(np.median(until)) if until else float("nan")


# --- the table


def main() -> None:
    """Print what docs/comparison.md says was simulated."""
    print(heading("simulated", "bound", "found"))
    for row in _rows():
        print(line(*row), flush=True)


def _rows() -> Iterator[tuple[str, str, str]]:
    looks = independent_requests((0.2, 0.2), n=10_000)
    peeking = "no difference at 0.2, a look every 50 requests, 10,000 an arm, 2,000 runs"
    yield f"{peeking}: asymptotic sequence", "5 %", f"{sequence_alarms(looks):.1%}"
    yield f"{peeking}: chi-square test", "", f"{naive_alarms(looks):.1%}"
    yield f"{peeking}: chi-square test without Yates's correction", "", f"{naive_alarms(looks, corrected=False):.1%}"
    for rate, difference in ((0.2, 0.03), (0.8, 0.02), (0.1, 0.04), (0.95, -0.02)):
        plan = plan_rates(rate, difference)
        said = f"{rate:g} against {rate + difference:g}, planned for {plan.units:,} units: seen by then"
        yield said, "≥ 80 %", f"{found_by(plan, (rate, rate + difference)):.1%}"
    for rate in (0.02, 0.2, 0.5):
        said = f"no difference at {rate:g}, empirical Bernstein and then the asymptotic sequence"
        yield said, "5 %", f"{handover_alarms(rate):.1%}"
    for rate in (0.01, 0.2):
        yield f"no difference at {rate:g}, empirical Bernstein", "5 %", f"{bernstein_alarms(rate):.1%}"
    for chance in (0.01, 0.5):
        yield f"a chance of {chance:g}, by the sequence for yes or no", "5 %", f"{bernoulli_misses(chance):.1%}"
    yield from _clustered_rows()
    yield from _split_rows()
    yield from _failure_rows()


def _clustered_rows() -> Iterator[tuple[str, str, str]]:
    ramp = (0.01, 0.05, 0.25, 0.5)
    for said, world in (
        ("units like strangers", World(likeness=0.0)),
        ("units with an effect of their own", World()),
        ("the same, ramp 1, 5, 25, 50 %", World(shares=ramp, looks_each=8)),
        ("the same ramp, everybody getting better", World(shares=ramp, looks_each=8, trend=2.0)),
        ("one caller with nine tenths of the requests", ONE_BUSY_CALLER),
        ("rewards of 1 for one request in a hundred, challenger's share 5 %", RARE_REWARDS),
    ):
        found = alarms(world)
        yield f"no difference, {said}: by cluster, pooled", "5 %", f"{found.by_cluster:.1%}"
        yield f"no difference, {said}: by request", "", f"{found.by_request:.1%}"
        if len(world.shares) > 1:
            yield f"no difference, {said}: periods thrown together", "", f"{found.not_pooled:.1%}"


def _split_rows() -> Iterator[tuple[str, str, str]]:
    for share, asked in ((0.5, 0.5), (0.1, 0.1), (0.48, 0.5), (0.12, 0.1)):
        found = multinomial_alarms((1 - share, share), (1 - asked, asked))
        bound = "1 %" if share == asked else ""
        yield f"split {asked:.0%} asked, {share:.0%} given, no units, 20,000 requests", bound, f"{found:.1%}"
    busy = World(shares=(0.1, 0.5), units=4_000, runs=100)
    for lost in (0.0, 0.3):
        found_of_units = split_alarms(busy, lost=lost)
        said = f"split 10 %, then 50 %, of busy and lazy units, {lost:.0%} of the challenger's lost"
        yield f"{said}: by cluster", "" if lost else "1 %", f"{found_of_units.by_cluster:.1%}"
        yield f"{said}: by request", "", f"{found_of_units.by_request:.1%}"


def _failure_rows() -> Iterator[tuple[str, str, str]]:
    for champion, challenger in ((0.002, 0.002), (0.002, 0.05), (0.0001, 0.05)):
        found, median = failure_alarms((champion, challenger))
        said = f"failures {champion:.2%} against {challenger:.2%}, challenger's share 5 %, 20,000 requests"
        after = "" if champion == challenger else f", after {median:.0f} of the challenger's requests (median)"
        yield said, "5 %" if champion == challenger else "", f"{found:.1%}{after}"
    for times in (1.0, 1.15, 2.0):
        found, median = latency_alarms(times)
        said = f"{times:g} times the latency, challenger's share 5 %, 30,000 requests: p99 over 1.2 times"
        after = "" if times < 1.2 else f", after {median:.0f} of the challenger's requests (median)"
        yield said, "5 %" if times < 1.2 else "", f"{found:.1%}{after}"


if __name__ == "__main__":
    main()
