"""What docs/comparison.md promises, simulated. `python -m loadtests.comparison` prints the figures."""

import numpy as np
import pytest

from gateway.comparison.planner import plan_means, plan_rates
from loadtests.comparison import (
    ONE_BUSY_CALLER,
    RARE_REWARDS,
    World,
    alarms,
    bernoulli_misses,
    bernstein_alarms,
    bernstein_misses,
    failure_alarms,
    found_by,
    handover_alarms,
    independent_requests,
    latency_alarms,
    multinomial_alarms,
    naive_alarms,
    sequence_alarms,
    split_alarms,
)

RAMP = (0.01, 0.05, 0.25, 0.5)


def test_looking_every_fifty_requests_raises_a_false_alarm_in_one_run_of_twenty_at_most():
    looks = independent_requests((0.2, 0.2), n=10_000, runs=2_000)
    assert sequence_alarms(looks) <= 0.05
    assert 0.33 < naive_alarms(looks) < 0.43


@pytest.mark.parametrize(("rate", "difference"), [(0.2, 0.03), (0.8, 0.02), (0.1, 0.04), (0.95, -0.02)])
def test_a_difference_is_seen_by_the_planned_size_in_four_runs_of_five(rate, difference):
    assert found_by(plan_rates(rate, difference), (rate, rate + difference)) >= 0.8


def test_so_is_one_of_units_that_ask_several_times():
    # Ten requests each, alike to a degree of 0.2; the means of both arms are drawn at once.
    plan = plan_means(0.05, champion_variance=1, challenger_variance=1, requests_per_unit=10, likeness=0.2)
    rng = np.random.default_rng(8)
    n = plan.units // 2
    deviation = np.sqrt(0.2 + 0.8 / 10)
    means = deviation * rng.standard_normal((2, 300)) / np.sqrt(n)
    seen = 0.05 + means[1] - means[0] > _half_width(deviation, n)
    assert seen.mean() >= 0.75


def _half_width(deviation, n):
    from gateway.comparison.confidence_sequences import asymptotic_half_width

    variance = 2 * deviation**2 / n
    return float(asymptotic_half_width(4.0, 4.0 / variance, alpha=0.05))


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.05, 0.5])
def test_empirical_bernstein_holds_a_rate(mean):
    values = (np.random.default_rng(9).random((400, 2_000)) < mean).astype(float)
    assert bernstein_misses(values, mean) <= 0.05


@pytest.mark.slow
def test_empirical_bernstein_holds_a_mean_of_other_values():
    values = np.random.default_rng(10).beta(2, 30, (400, 2_000))
    assert bernstein_misses(values, 2 / 32) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("chance", [0.01, 0.5])
def test_the_sequence_for_yes_or_no_holds_a_chance(chance):
    assert bernoulli_misses(chance) <= 0.05


@pytest.mark.slow
def test_twice_the_latency_is_found_early_and_a_little_more_is_left_alone():
    assert latency_alarms(1.1, runs=20)[0] <= 0.05
    found, median = latency_alarms(2.0, runs=20)
    assert found == 1
    assert median < 500


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_empirical_bernstein_raises_few_false_alarms(rate):
    assert bernstein_alarms(rate, runs=150) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_changing_from_one_sequence_to_the_other_stays_within_the_bound(rate):
    assert handover_alarms(rate, runs=500) <= 0.05


@pytest.mark.slow
def test_units_that_ask_again_and_again_need_clusters():
    found = alarms(World(runs=150))
    assert found.by_cluster <= 0.05
    assert found.by_request > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("trend", [0.0, 2.0])
def test_a_ramp_raises_few_false_alarms_even_while_everybody_gets_better(trend):
    found = alarms(World(shares=RAMP, looks_each=8, trend=trend))
    assert found.by_cluster <= 0.05
    assert found.by_request > 0.2
    assert (found.not_pooled > 0.9) == (trend > 0)


@pytest.mark.slow
@pytest.mark.parametrize("world", [ONE_BUSY_CALLER, RARE_REWARDS], ids=["one busy caller", "rare rewards"])
def test_few_that_decide_all_raise_few_false_alarms(world):
    assert alarms(world).by_cluster <= 0.05


@pytest.mark.slow
def test_an_effect_is_seen_through_a_ramp_and_a_trend():
    assert alarms(World(shares=RAMP, looks_each=8, trend=2.0, effect=0.6, runs=100)).by_cluster >= 0.8


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_split_as_asked_is_called_wrong_in_one_run_of_a_hundred_at_most(share):
    shares = (1 - share, share)
    assert multinomial_alarms(shares, shares, runs=1_000) <= 0.01


def test_a_split_that_is_off_by_a_twentieth_is_found():
    assert multinomial_alarms((0.525, 0.475), (0.5, 0.5), runs=500) >= 0.95


@pytest.mark.slow
def test_busy_units_are_no_mismatch_and_lost_requests_are_one():
    busy = World(shares=(0.1, 0.5), units=4_000, runs=60)
    fair = split_alarms(busy)
    assert fair.by_cluster <= 0.01
    assert fair.by_request > 0.3
    assert split_alarms(busy, lost=0.3).by_cluster >= 0.9


@pytest.mark.slow
def test_a_challenger_that_fails_is_found_early_and_one_that_does_not_is_left_alone():
    assert failure_alarms((0.002, 0.002), runs=60)[0] <= 0.05
    found, median = failure_alarms((0.002, 0.05), runs=20)
    assert found == 1
    assert median < 100
