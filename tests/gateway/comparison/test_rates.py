"""The ratio of failure rates."""

import math

import pytest

from gateway.comparison.rates import Failures, rate_ratio_sequence


def ratio(*periods, alpha=0.05):
    return rate_ratio_sequence(
        [Failures(champion=a, challenger=b, champion_requests=n, challenger_requests=m) for a, b, n, m in periods],
        alpha=alpha,
    )


def test_no_failures_say_nothing():
    assert ratio((0, 0, 1_000, 1_000)) == (0, math.inf)
    assert ratio((0, 0, 0, 0)) == (0, math.inf)


def test_a_few_failures_of_a_small_arm_are_enough():
    lower, upper = ratio((0, 3, 1_900, 100))
    assert lower > 1
    assert upper == math.inf


def test_the_interval_holds_the_ratio_and_narrows_with_more():
    few, many = ratio((10, 20, 1_000, 1_000)), ratio((1_000, 2_000, 100_000, 100_000))
    assert few[0] < many[0] < 2 < many[1] < few[1]
    assert many[1] / many[0] < 1.5


def test_arms_can_be_exchanged():
    lower, upper = ratio((12, 40, 5_000, 700))
    other_lower, other_upper = ratio((40, 12, 700, 5_000))
    assert (lower, upper) == pytest.approx((1 / other_upper, 1 / other_lower), rel=1e-6)


def test_a_bad_day_of_both_is_no_difference():
    calm, bad = (0, 0, 9_900, 100), (250, 250, 5_000, 5_000)
    lower, upper = ratio(calm, bad)
    assert lower < 1 < upper
    # Thrown together, the challenger seems to fail twice as often: it was there more on the bad day.
    assert ratio((250, 250, 14_900, 5_100))[0] > 1
