"""The sequences against published values, closed forms, and slower ways to the same number."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betaln, logsumexp

from gateway.comparison.confidence_sequences import (
    _GUESS,
    _PRICE,
    _STAKE,
    asymptotic_half_width,
    asymptotic_log_evidence,
    bernoulli_sequence,
    bernstein_log_evidence,
    bounded_sums,
    empirical_bernstein,
    empirical_bernstein_difference,
    mixture_scale,
)


def test_the_half_width_of_two_rates_is_the_published_one():
    # p = 0.10 and 0.14 of 1,000 each: n counts both arms, and variances are p (1 - p), not of a sample.
    n = 2_000
    s2 = n * (0.10 * 0.90 + 0.14 * 0.86) / 1_000
    assert float(asymptotic_half_width(s2, n, alpha=0.05)) == pytest.approx(0.04531095142653833, abs=1e-15)


def test_the_half_width_is_the_formula():
    s2, n, alpha = 0.3, 777.0, 0.1
    r = math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / 5_000)
    half = math.sqrt(s2) * math.sqrt(2 * (n * r**2 + 1) * math.log(math.sqrt(n * r**2 + 1) / alpha) / (n * r) ** 2)
    assert mixture_scale(alpha) == r
    assert float(asymptotic_half_width(s2, n, alpha=alpha)) == pytest.approx(half, rel=1e-14)


def test_the_sequence_is_narrowest_about_where_it_is_tuned():
    # Beside intervals for one look: the ratio of half-widths is least near 5,000.
    n = np.geomspace(50, 500_000, 400)
    ratio = asymptotic_half_width(1.0, n, alpha=0.05) * np.sqrt(n)
    assert 2_500 < n[ratio.argmin()] < 10_000


def test_nothing_seen_is_an_infinite_width():
    assert asymptotic_half_width([1.0, 0.0], [0.0, 0.0], alpha=0.05).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("n", [30.0, 5_000.0, 1e6])
def test_evidence_reaches_the_bound_where_none_leaves_the_sequence(n):
    half = float(asymptotic_half_width(1.0, n, alpha=0.05))
    evidence = float(asymptotic_log_evidence(half * math.sqrt(n), n, alpha=0.05))
    assert evidence == pytest.approx(math.log(20), rel=1e-12)


def test_evidence_is_a_mixture_of_likelihood_ratios():
    # Of means drawn from a normal distribution of standard deviation r, by numerical integration.
    n, z, r = 400.0, 3.1, mixture_scale(0.05)
    means = np.linspace(-12 * r, 12 * r, 200_001)
    density = np.exp(-(means**2) / (2 * r**2)) / (r * math.sqrt(2 * math.pi))
    ratio = np.exp(means * z * math.sqrt(n) - n * means**2 / 2)
    mixed = math.log(float(np.trapezoid(density * ratio, means)))
    assert float(asymptotic_log_evidence(z, n, alpha=0.05)) == pytest.approx(mixed, rel=1e-8)


def wealth(sums, mean):
    """The mixture of wagers, as it is defined."""
    n, total, squares = (float(each) for each in (sums.n, sums.total, sums.squares))
    spread = squares - 2 * _GUESS * total + _GUESS**2 * n
    return float(logsumexp(_STAKE * (total - n * mean) - _PRICE * spread)) - math.log(len(_STAKE))


@pytest.mark.parametrize("mean", [0.0, 0.013, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("value", [0.0, 0.2, 0.6, 1.0])
def test_no_wager_can_be_expected_to_win(mean, value):
    # One observation, two-valued with that mean: the worst that a bounded value can do.
    other = 1.0 if value < mean or value == 0 else 0.0
    chance = (mean - other) / (value - other)
    for guess, stake, price in zip(_GUESS, _STAKE, _PRICE, strict=True):
        wins = [math.exp(stake * (x - mean) - price * (x - guess) ** 2) for x in (value, other)]
        assert chance * wins[0] + (1 - chance) * wins[1] <= 1 + 1e-12


@pytest.mark.parametrize(("n", "total"), [(10, 3), (100, 0), (100, 100), (5_000, 400), (1_000_000, 999_000)])
def test_the_ends_are_where_the_wagers_have_won_enough(n, total):
    sums = bounded_sums(n, total, total)
    lower, upper = (float(end) for end in empirical_bernstein(sums, alpha=0.05))
    enough = math.log(40)
    for end, seen in ((lower, sums), (1 - upper, sums.mirrored())):
        if end == 0:
            assert wealth(seen, 0.0) <= enough
        else:
            solved = brentq(
                lambda mean, seen=seen: wealth(seen, mean) - enough, 0, float(seen.total / seen.n), xtol=1e-14
            )
            assert end == pytest.approx(solved, abs=1e-9)
    assert 0 <= lower <= total / n <= upper <= 1


def test_nothing_seen_leaves_everything_open():
    lower, upper = empirical_bernstein(bounded_sums(0, 0, 0), alpha=0.05)
    assert (float(lower), float(upper)) == (0, 1)


def test_shapes_are_kept():
    n = np.array([[10.0, 100.0, 1_000.0], [20.0, 200.0, 2_000.0]])
    lower, upper = empirical_bernstein(bounded_sums(n, n / 4, n / 4), alpha=0.05)
    assert lower.shape == upper.shape == (2, 3)
    one = empirical_bernstein(bounded_sums(200, 50, 50), alpha=0.05)
    assert (lower[1, 1], upper[1, 1]) == pytest.approx((float(one[0]), float(one[1])), abs=1e-12)


@pytest.mark.parametrize(("n", "successes"), [(0, 0), (10, 0), (10, 10), (80, 8), (1_000_000, 10_000), (25.5, 3.2)])
def test_a_chance_is_left_out_where_the_mixture_is_twenty_times_as_likely(n, successes):
    lower, upper = (float(end) for end in bernoulli_sequence(n, successes, alpha=0.05))
    for end, trivial in ((lower, 0.0), (upper, 1.0)):
        if end != trivial:
            mixed = betaln(successes + 0.5, n - successes + 0.5) - betaln(0.5, 0.5)
            likelihood = successes * math.log(end) + (n - successes) * math.log1p(-end)
            assert mixed - likelihood == pytest.approx(math.log(20), abs=1e-6)
    assert lower <= (successes / n if n else 0.5) <= upper
    assert (lower == 0) == (successes == 0)
    assert (upper == 1) == (successes == n)


def test_chances_of_any_shape_are_judged_side_by_side():
    lower, upper = bernoulli_sequence([[10, 100], [20, 200]], [[1, 10], [2, 20]], alpha=0.05)
    one = bernoulli_sequence(100, 10, alpha=0.05)
    assert (lower[0, 1], upper[0, 1]) == (one[0], one[1])


def test_less_is_known_of_values_that_come_in_clusters():
    sums = bounded_sums(1_000, 100, 100)
    alone, clustered = (empirical_bernstein(each, alpha=0.05) for each in (sums, sums.shrunk(4.0)))
    assert clustered[0] < alone[0] < alone[1] < clustered[1]


def test_evidence_for_a_difference_is_the_least_at_any_level():
    champion, challenger = bounded_sums(300, 20, 20), bounded_sums(200, 40, 40)
    for difference in (-0.2, 0.0, 0.1):

        def both(level, difference=difference):
            return wealth(challenger, level + difference) + wealth(champion.mirrored(), 1 - level)

        low, high = max(0, -difference), min(1, 1 - difference)
        least = minimize_scalar(both, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).fun
        assert float(bernstein_log_evidence([(champion, challenger)], difference)) == pytest.approx(least, abs=1e-6)


def test_a_difference_is_told_more_closely_than_by_two_intervals():
    champion, challenger = bounded_sums(500, 50, 50), bounded_sums(500, 125, 125)
    lower, upper = empirical_bernstein_difference([(champion, challenger)], alpha=0.05)
    (low, high), (low_other, high_other) = (empirical_bernstein(arm, alpha=0.025) for arm in (champion, challenger))
    assert low_other - high < lower < 0.15 < upper < high_other - low
    assert lower > 0


def test_a_difference_is_the_opposite_the_other_way_round():
    champion, challenger = bounded_sums(500, 50, 50), bounded_sums(100, 25, 25)
    lower, upper = empirical_bernstein_difference([(champion, challenger)], alpha=0.05)
    other_lower, other_upper = empirical_bernstein_difference([(challenger, champion)], alpha=0.05)
    assert (lower, upper) == pytest.approx((-other_upper, -other_lower), abs=1e-5)


def test_a_level_that_moves_from_one_period_to_the_next_is_no_difference():
    early = bounded_sums(1_000, 100, 100), bounded_sums(50, 5, 5)
    late = bounded_sums(50, 45, 45), bounded_sums(1_000, 900, 900)
    lower, upper = empirical_bernstein_difference([early, late], alpha=0.05)
    assert lower < 0 < upper
    thrown_together = bounded_sums(1_050, 145, 145), bounded_sums(1_050, 905, 905)
    assert empirical_bernstein_difference([thrown_together], alpha=0.05)[0] > 0.5
