"""The test of the split itself."""

import math

import numpy as np
import pytest
from scipy.stats import dirichlet_multinomial, multinomial

from gateway.comparison.sample_ratio import SplitSums, chi_square_p, multinomial_log_evidence, sample_ratio
from gateway.comparison.sums import CLUSTERS


def test_the_chi_square_test_is_the_published_one():
    assert chi_square_p([5_000, 5_400], [0.5, 0.5]) == pytest.approx(8.769942375590228e-05, rel=1e-12)


@pytest.mark.parametrize("counts", [(0, 0), (3, 4), (500, 700), (1, 2_000)])
def test_the_bayes_factor_is_that_of_two_distributions(counts):
    shares = np.array([0.4, 0.6])
    ratio = dirichlet_multinomial.logpmf(counts, 1_000 * shares, sum(counts)) - multinomial.logpmf(
        counts, sum(counts), shares
    )
    assert float(multinomial_log_evidence(counts, shares)) == pytest.approx(float(ratio), abs=1e-8)


def test_an_arm_without_a_share_that_is_asked_is_as_wrong_as_can_be():
    assert float(multinomial_log_evidence([10, 1], [1.0, 0.0])) == math.inf
    assert float(multinomial_log_evidence([10, 0], [1.0, 0.0])) == 0


def period(requests, unitless=(0, 0), *, share=0.5, busiest=0):
    """Requests of both arms, evenly over their clusters but for *busiest* of one cluster of the challenger's."""
    buckets = np.zeros((2, CLUSTERS))
    own = round(10_000 * share)
    buckets[1] = np.bincount(np.arange(own) % CLUSTERS, minlength=CLUSTERS)
    buckets[0] = np.bincount(np.arange(own, 10_000) % CLUSTERS, minlength=CLUSTERS)
    spread = buckets / buckets.sum(axis=-1, keepdims=True)
    alone = spread * np.array(unitless)[:, None]
    counts = spread * np.array(requests)[:, None]
    counts[1, 0] += busiest
    return SplitSums(requests=counts + alone, unitless=alone, buckets=buckets)


def test_a_split_as_asked_is_no_mismatch():
    found = sample_ratio([period((9_000, 1_000), (900, 100), share=0.1)])
    assert not found.mismatch
    assert found.asked == pytest.approx(found.observed) == pytest.approx(0.1)
    assert found.p_value == 1


def test_requests_without_a_unit_that_fall_otherwise_are_a_mismatch():
    found = sample_ratio([period((0, 0), (5_000, 5_600))])
    assert found.mismatch
    assert found.observed == pytest.approx(5_600 / 10_600)


def test_requests_of_units_that_fall_otherwise_are_a_mismatch():
    assert sample_ratio([period((50_000, 55_000))]).mismatch


def test_one_busy_unit_is_no_mismatch():
    assert not sample_ratio([period((50_000, 50_000), busiest=5_000)]).mismatch


def test_a_small_arm_that_none_of_a_few_busy_units_falls_on_is_no_mismatch():
    def units(share, few, requests):
        """So many units of the champion's, in clusters of their own; the challenger has none."""
        split = period((0, 0), share=share)
        split.requests[0, 500 : 500 + few] = requests
        return split

    assert not sample_ratio([units(0.005, 200, 1_000)]).mismatch
    # Of a thousand units, a tenth of the buckets would have been given some.
    assert sample_ratio([units(0.1, 500, 1_000)]).mismatch


def test_shares_that_change_from_period_to_period_are_each_held_to_their_own():
    ramp = [period((9_900, 100), share=0.01), period((5_000, 5_000), share=0.5)]
    assert not sample_ratio(ramp).mismatch
    assert sample_ratio([period((0, 0), (9_900, 100), share=0.01), period((0, 0), (9_900, 100))]).mismatch


def test_nothing_asked_is_nothing_found():
    found = sample_ratio([period((0, 0), share=0.2)])
    assert (found.asked, found.p_value, found.mismatch) == (pytest.approx(0.2), 1, False)
    assert math.isnan(found.observed)
