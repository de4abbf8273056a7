"""A slowdown of 30 % is caught and an identical version passed, in noise as machines have it; seeds are fixed."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from gateway.load_testing import slowdown
from gateway.load_testing.slowdown import PAIRS_MIN, Pair, Slower, by_latency, by_processor, conclude

RUNS = 400
PLANNED, MOST = 12, 24
"""Pairs of turns that a run has, and those that it goes on to while it is unsure."""


def even(rng, count):
    return rng.normal(0, 0.08, count)


def heavy_tailed(rng, count):
    return 0.04 * rng.standard_t(3, count)


def bursts(rng, count):
    """In one window of eight something else runs beside it, at up to several times the cost."""
    return rng.normal(0, 0.04, count) + (rng.random(count) < 1 / 8) * rng.exponential(0.5, count)


def drifting(rng, count):
    """The machine gets slower and quicker in the course of a run, as its clock and its neighbours do."""
    steps = rng.normal(0, 0.06, count)
    return np.cumsum(steps) + rng.normal(0, 0.03, count)


def run(rng, noise, ratio, judge=by_processor):
    """What is said of a version that takes *ratio* times as much, going on while it is unsure as a load test does."""
    disturbed = np.exp(noise(rng, 2 * MOST))
    pairs = []
    for number in range(MOST):
        first, second = disturbed[2 * number : 2 * number + 2]
        # Which of the two goes first alternates.
        baseline, candidate = (first, second) if number % 2 == 0 else (second, first)
        pairs.append(Pair(baseline, ratio * candidate))
        if len(pairs) >= PLANNED and judge(pairs).slower is not Slower.UNSURE:
            break
    return judge(pairs).slower


@pytest.mark.parametrize("noise", [even, heavy_tailed, bursts, drifting])
def test_thirty_percent_are_caught_and_an_identical_rebuild_passes(noise):
    rng = np.random.default_rng(6)
    caught = sum(run(rng, noise, 1.3) is Slower.YES for _ in range(RUNS))
    failed = sum(run(rng, noise, 1.0) is not Slower.NO for _ in range(RUNS))
    assert caught >= 0.95 * RUNS
    assert failed <= 0.05 * RUNS


def test_by_latency_an_identical_version_is_hardly_ever_slower():
    rng = np.random.default_rng(6)
    assert sum(run(rng, bursts, 1.0, by_latency) is Slower.YES for _ in range(RUNS)) <= 0.01 * RUNS


def test_the_bounds_hold_as_often_as_they_say():
    rng = np.random.default_rng(6)
    said = [by_processor([Pair(1.0, np.exp(x)) for x in rng.standard_t(3, 12)]) for _ in range(2_000)]
    assert sum(one.low <= 1.0 <= one.high for one in said) / len(said) >= 0.94


@pytest.mark.parametrize("count", [6, 10, 15])
def test_bounds_are_those_of_the_signed_rank_test(count):
    # All ways in which the signs of so many ranks can fall.
    ranks = range(1, count + 1)
    sums = [sum(chosen) for size in range(count + 1) for chosen in combinations(ranks, size)]
    bound = slowdown._rank_bound(count)
    assert np.mean(np.array(sums) <= bound) <= 0.025 < np.mean(np.array(sums) <= bound + 1)


def test_the_estimate_is_the_median_of_the_means_of_any_two():
    logs = np.random.default_rng(6).normal(0.1, 0.2, 9)
    walsh = [(a + b) / 2 for place, a in enumerate(logs) for b in logs[place:]]
    said = by_processor([Pair(2.0, 2.0 * np.exp(x)) for x in logs])
    assert said.ratio == pytest.approx(np.exp(np.median(walsh)))
    assert said.low < said.ratio < said.high
    inside = stats.wilcoxon(logs - np.log(said.low) - 1e-9, method="exact").pvalue
    assert inside > 0.05


@pytest.mark.parametrize(
    ("pairs", "slower"),
    [
        pytest.param([], Slower.UNSURE, id="none"),
        pytest.param([Pair(1.0, 9.0)] * (PAIRS_MIN - 1), Slower.UNSURE, id="too few"),
        pytest.param([Pair(1.0, 9.0)] * PAIRS_MIN, Slower.YES, id="just enough"),
        pytest.param([Pair(1.0, 1.0)] * PAIRS_MIN, Slower.NO, id="the same"),
        pytest.param([Pair(1.0, 0.1)] * PAIRS_MIN, Slower.NO, id="quicker"),
        pytest.param([Pair(0.0, 1.0)] * 50, Slower.UNSURE, id="what cost nothing says nothing"),
        pytest.param([Pair(1.0, 2.0), Pair(2.0, 1.0)] * 3, Slower.UNSURE, id="noise alone"),
    ],
)
def test_what_can_be_said_of_few_pairs(pairs, slower):
    assert by_processor(pairs).slower is slower


def test_who_waits_without_a_processor_is_slower_too():
    same, slower = by_processor([Pair(1.0, 1.0)] * 8), by_latency([Pair(1.0, 1.4)] * 8)
    unsure = by_processor([])
    assert conclude(same, same) is Slower.NO
    assert conclude(same, slower) is Slower.YES
    assert conclude(unsure, same) is Slower.UNSURE
