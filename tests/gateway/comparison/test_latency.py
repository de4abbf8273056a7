"""Quantiles of histograms."""

import math

import numpy as np
import pytest

from gateway.comparison.latency import quantile_ratio, quantile_sequence
from gateway.comparison.latency_counts import BOUNDS_S, counts_of, no_requests, quantile_s


def latencies(median_s, n, seed=5):
    return median_s * np.exp(0.5 * np.random.default_rng(seed).standard_normal(n))


def test_bounds_lie_nine_percent_apart():
    assert np.allclose(BOUNDS_S[1:] / BOUNDS_S[:-1], 2 ** (1 / 8))
    assert BOUNDS_S[0] == 0.0001
    assert BOUNDS_S[-1] > 100


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_a_quantile_is_right_to_nine_percent(share):
    seconds = latencies(0.02, 5_000)
    exact = np.quantile(seconds, share, method="inverted_cdf")
    assert exact <= quantile_s(counts_of(seconds), share) <= exact * 1.0906


def test_quantiles_of_nothing_and_of_what_never_ends():
    assert math.isnan(quantile_s(no_requests(), 0.5))
    assert quantile_s(counts_of([1e6]), 0.5) == math.inf


def test_the_sequence_holds_the_quantile_and_narrows():
    few, many = (quantile_sequence(counts_of(latencies(0.02, n)), 0.99, alpha=0.05) for n in (2_000, 50_000))
    true_s = 0.02 * math.exp(0.5 * 2.3263)
    assert few.lower_s <= many.lower_s < true_s < many.upper_s <= few.upper_s
    assert many.upper_s / many.lower_s < 1.35


def test_nothing_measured_leaves_everything_open():
    found = quantile_sequence(no_requests(), 0.99, alpha=0.05)
    assert (found.lower_s, found.upper_s) == (0, math.inf)
    assert quantile_ratio(no_requests(), no_requests(), 0.99, alpha=0.05) == (0, math.inf)


def test_twice_the_latency_is_found_and_the_same_is_not():
    champion, same, twice = (counts_of(latencies(m, 20_000, seed)) for m, seed in ((0.01, 1), (0.01, 2), (0.02, 3)))
    assert quantile_ratio(champion, twice, 0.99, alpha=0.05)[0] > 1.2
    lower, upper = quantile_ratio(champion, same, 0.99, alpha=0.05)
    assert lower < 1 < upper
