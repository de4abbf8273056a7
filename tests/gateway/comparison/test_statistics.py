"""Estimates, their variance by cluster, and the pooling of periods, against closed forms and slower ways."""

import math

import numpy as np
import pytest

from gateway.comparison.metrics import (
    ACCURACY,
    BRIER,
    F1,
    FAILURE_RATE,
    LOG_LOSS,
    MAE,
    METRICS,
    REWARD,
    RMSE,
    MetricUnknown,
    metric_named,
    reward_within,
)
from gateway.comparison.rates import failure_ratio
from gateway.comparison.statistics import (
    Method,
    asymptotic_interval,
    compare,
    estimate,
    p_value,
    pool,
)
from gateway.comparison.sums import CLASSES, CLUSTERS, NUMBERS, REWARDS, SERVING, ClusterSums, Column


def sums_of(layout, clusters, **columns):
    sums = ClusterSums(layout)
    sums.add_many(np.asarray(clusters), {Column(name): np.asarray(values, float) for name, values in columns.items()})
    return sums.values


def answers(right, n, *, clusters=CLUSTERS):
    """Labels of which *right* are right, each in the next cluster."""
    correct = (np.arange(n) < right).astype(float)
    return sums_of(CLASSES, np.arange(n) % clusters, labels=np.ones(n), correct=correct)


def both_arms(sums):
    """The same in both arms, of other units."""
    return sums, np.roll(sums, CLUSTERS // 2, axis=1)


def difference_of(metric, *periods):
    return pool([(estimate(metric, champion), estimate(metric, challenger)) for champion, challenger in periods])


def test_a_mean_of_strangers_has_the_variance_of_one():
    found = estimate(ACCURACY, answers(140, 1_000))
    assert float(found.value) == 0.14
    assert float(found.spread / found.n) == pytest.approx(0.14 * 0.86)
    # One label in each cluster: the sample's variance, with its n - 1.
    assert float((found.pulls**2).sum()) == pytest.approx(0.14 * 0.86 / 999)
    assert float(found.pulls.sum()) == pytest.approx(0, abs=1e-15)


def test_two_rates_give_the_published_half_width_but_for_the_clusters_degree_of_freedom():
    interval = asymptotic_interval(difference_of(ACCURACY, (answers(100, 1_000), answers(140, 1_000))))
    half = float(interval.upper - interval.lower) / 2
    assert half == pytest.approx(0.04531095142653833, rel=1e-3)


def test_requests_of_one_unit_that_say_the_same_count_once():
    once = both_arms(answers(50, 500, clusters=500))
    plain, repeated = difference_of(ACCURACY, once), difference_of(ACCURACY, (once[0] * 10, once[1] * 10))
    assert float(repeated.variance) == pytest.approx(float(plain.variance))
    assert float(repeated.design_effect) == pytest.approx(10, rel=0.01)
    assert float(repeated.n) == pytest.approx(float(plain.n))


def test_the_variance_by_cluster_is_that_of_a_ratio():
    rng = np.random.default_rng(3)
    n, y = rng.integers(1, 9, 900), rng.random(900)
    sums = np.zeros((len(CLASSES), CLUSTERS))
    sums[0, :900], sums[1, :900] = n, n * y
    found = estimate(ACCURACY, sums)
    rate = (n * y).sum() / n.sum()
    linear = 900 / 899 * ((n * y - rate * n) ** 2).sum() / n.sum() ** 2
    assert float((found.pulls**2).sum()) == pytest.approx(linear, rel=0.01)


def test_a_caller_with_most_of_the_requests_is_one_caller():
    def asked(busiest_are_right):
        """Forty others are right every other time."""
        labels = np.array([2.0] * 40 + [720.0])
        correct = np.array([1.0] * 40 + [720.0 * busiest_are_right])
        return sums_of(CLASSES, range(41), labels=labels, correct=correct)

    found = difference_of(ACCURACY, (asked(0.2), asked(0.8)))
    assert float(found.value) == pytest.approx(0.54)
    assert float(found.variance) > 2 * 0.2**2
    interval = compare(ACCURACY, [(asked(0.2), asked(0.8))]).interval
    assert interval.lower < 0 < interval.upper


@pytest.mark.parametrize("metric", [F1, RMSE, BRIER, LOG_LOSS], ids=lambda metric: metric.name)
def test_the_variance_by_cluster_is_the_jackknifes(metric):
    rng = np.random.default_rng(4)
    n = 4_000
    clusters = rng.integers(0, 200, n)
    if metric is RMSE:
        error = np.abs(rng.standard_normal(n))
        values = {"errors": error, "squared_errors": error**2, "fourth_powers": error**4}
    else:
        kind, loss = rng.integers(0, 4, n), rng.random(n)
        values = {"true_positives": kind == 0, "false_positives": kind == 1, "false_negatives": kind == 2}
        values |= {"log_loss": loss, "log_loss_squares": loss**2, "brier": loss, "brier_squares": loss**2}
    sums = sums_of(metric.layout, clusters, labels=np.ones(n), **values)
    left_out = [float(estimate(metric, np.delete(sums, cluster, axis=1)).value) for cluster in range(200)]
    jackknife = 199 / 200 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum()
    found = estimate(metric, sums)
    assert float((found.pulls**2).sum()) == pytest.approx(jackknife, rel=0.05)
    # These requests are strangers, so that it makes no odds whether they are clustered.
    assert float(found.spread / found.n**2) == pytest.approx(jackknife, rel=0.25)


def test_metrics_are_what_they_are_called():
    sums = sums_of(CLASSES, range(6), true_positives=[1, 1, 0, 0, 0, 0], false_positives=[0, 0, 1, 0, 0, 0])
    assert float(estimate(F1, sums).value) == pytest.approx(2 * 2 / (2 * 2 + 1))
    errors = np.array([3.0, 4.0])
    numbers = sums_of(NUMBERS, [0, 1], labels=[1, 1], errors=errors, squared_errors=errors**2)
    assert float(estimate(RMSE, numbers).value) == pytest.approx(math.sqrt(12.5))
    assert float(estimate(metric_named("mae"), numbers).value) == 3.5
    with pytest.raises(MetricUnknown, match="accuracy"):
        metric_named("acuracy")


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_a_metric_of_nothing_is_no_number_and_says_nothing(metric):
    nothing = ClusterSums(metric.layout).values
    assert np.isnan(estimate(metric, nothing).value)
    interval = compare(metric, [(nothing, nothing)]).interval
    assert interval.lower <= -1
    assert interval.upper >= 1


def test_periods_are_weighted_by_inverse_variance():
    # The same rates in both, so that the weights are those of a b / (a + b).
    first = answers(200, 2_000), answers(60, 200)
    second = answers(100, 1_000), answers(180, 1_000)
    weights = np.array([2_000 * 200 / 2_200, 1_000 * 1_000 / 2_000])
    variance = [0.1 * 0.9, (60 * 0.7 * 1 + 180 * 0.82) / 1_200]
    exact = [1 / (variance[0] / a + variance[1] / b) for a, b in ((2_000, 200), (1_000, 1_000))]
    values = np.array([0.2, 0.08])
    assert float(difference_of(ACCURACY, first, second).value) == pytest.approx(np.average(values, weights=exact))
    assert float(difference_of(ACCURACY, first, second).value) == pytest.approx(
        np.average(values, weights=weights), rel=0.1
    )


def test_a_ramp_in_better_times_makes_no_better_challenger():
    early = answers(500, 1_000), answers(5, 10)
    late = answers(9, 10), answers(900, 1_000)
    assert float(difference_of(ACCURACY, early, late).value) == pytest.approx(0, abs=1e-12)
    thrown_together = (early[0] + late[0], early[1] + late[1])
    assert float(difference_of(ACCURACY, thrown_together).value) > 0.35


def test_a_unit_that_is_asked_in_two_periods_is_one_unit():
    first = both_arms(answers(250, 500))
    again = difference_of(ACCURACY, first, first)
    assert float(again.variance) == pytest.approx(float(difference_of(ACCURACY, first).variance), rel=0.01)
    assert float(again.design_effect) == pytest.approx(2, rel=0.02)


def test_a_period_in_which_one_arm_was_not_asked_weighs_nothing():
    asked, unasked = answers(300, 600), ClusterSums(CLASSES).values
    alone, beside = difference_of(ACCURACY, (asked, asked)), difference_of(ACCURACY, (asked, asked), (asked, unasked))
    assert float(beside.value) == float(alone.value) == 0
    assert float(beside.variance) == pytest.approx(float(alone.variance))


def test_runs_are_judged_side_by_side():
    champion, challenger = answers(100, 1_000), answers(140, 1_000)
    many = difference_of(ACCURACY, (np.stack([champion] * 3), np.stack([challenger, champion, challenger])))
    one = difference_of(ACCURACY, (champion, challenger))
    assert many.value.tolist() == pytest.approx([float(one.value), 0, float(one.value)])
    assert many.variance[0] == pytest.approx(float(one.variance))


def test_a_p_value_is_below_alpha_exactly_where_none_is_left_out():
    for right in range(100, 200, 5):
        difference = difference_of(ACCURACY, (answers(100, 1_000), answers(right, 1_000)))
        left_out = bool(asymptotic_interval(difference).lower > 0)
        assert (float(p_value(difference)) < 0.05) == left_out


def test_few_clusters_say_nothing():
    few = answers(500, 5_000, clusters=19)
    many = answers(4_500, 5_000)
    difference = difference_of(LOG_LOSS, (few, many))
    assert float(asymptotic_interval(difference).lower) == -math.inf
    assert float(p_value(difference)) == 1
    assert compare(LOG_LOSS, [(few, many)]).interval.method is Method.NONE


def test_little_is_judged_by_empirical_bernstein_and_much_by_the_asymptotic_sequence():
    assert compare(ACCURACY, [(answers(30, 60), answers(50, 60))]).interval.method is Method.EMPIRICAL_BERNSTEIN
    assert compare(ACCURACY, [(answers(300, 600), answers(500, 600))]).interval.method is Method.ASYMPTOTIC


def test_one_caller_is_no_evidence_however_often_it_asks():
    def requests(clusters, *, failed):
        sums = sums_of(SERVING, np.arange(2_000) % clusters, requests=np.ones(2_000))
        sums[2] = sums[0] * failed
        return sums

    champion = requests(1_000, failed=0)
    assert compare(FAILURE_RATE, [(champion, requests(1, failed=1))]).interval.lower < 0
    assert failure_ratio([(champion, requests(1, failed=1))], alpha=0.05)[0] < 1
    assert compare(FAILURE_RATE, [(champion, requests(100, failed=1))]).interval.lower > 0.5
    assert failure_ratio([(champion, requests(100, failed=1))], alpha=0.05)[0] > 10


def test_a_comparison_says_what_it_was_made_of():
    found = compare(ACCURACY, [(answers(800, 1_000), answers(170, 200))])
    assert (found.champion, found.challenger) == (0.8, 0.85)
    assert (found.champion_n, found.challenger_n) == (1_000, 200)
    assert found.difference == pytest.approx(0.05)
    assert found.interval.lower < 0.05 < found.interval.upper
    assert (found.metric, found.clusters) == ("accuracy", 200)


def test_rare_failures_are_little_however_many_requests_there_are():
    def requests(failed):
        failures = (np.arange(100_000) < failed).astype(float)
        return sums_of(SERVING, np.arange(100_000) % 1_000, requests=np.ones(100_000), failures=failures)

    interval = compare(FAILURE_RATE, [(requests(0), requests(3))]).interval
    assert interval.method is Method.EMPIRICAL_BERNSTEIN
    assert interval.lower < 0.00003 < interval.upper < 0.0005


def test_a_small_arm_that_has_seen_nothing_rare_yet_is_not_surely_worse():
    def visits(n, purchases):
        bought = (np.arange(n) % (n // max(purchases, 1)) == 0).astype(float) if purchases else np.zeros(n)
        return sums_of(REWARDS, np.arange(n) % 997, labels=np.ones(n), rewards=bought, reward_squares=bought)

    none_yet = compare(REWARD, [(visits(9_500, 95), visits(500, 0))])
    assert none_yet.difference == pytest.approx(-0.01)
    assert none_yet.interval.upper > 0
    # So many that it surely should have.
    assert compare(REWARD, [(visits(190_000, 1_900), visits(10_000, 0))]).interval.upper < 0


def test_an_arm_that_has_shown_how_its_values_vary_is_judged_by_that():
    def errors(n, scale):
        each = scale * (1 + np.arange(n) % 2)
        return sums_of(NUMBERS, np.arange(n) % 997, labels=np.ones(n), errors=each, squared_errors=each**2)

    alike = difference_of(MAE, (errors(9_000, 1), errors(1_000, 1)))
    better = difference_of(MAE, (errors(9_000, 1), errors(1_000, 0.1)))
    assert float(better.variance) < 0.2 * float(alike.variance)


def test_rewards_within_bounds_are_judged_on_their_own_scale():
    rewards = np.full(60, -5.0), np.full(60, 5.0)
    sums = [sums_of(REWARDS, range(60), labels=np.ones(60), rewards=each, reward_squares=each**2) for each in rewards]
    interval = compare(reward_within(-10, 10), [(sums[0], sums[1])]).interval
    assert interval.method is Method.EMPIRICAL_BERNSTEIN
    assert 0 < interval.lower < 10 < interval.upper <= 20
