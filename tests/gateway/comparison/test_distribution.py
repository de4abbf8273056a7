"""What was predicted how often, in bounded space."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.comparison.distribution import CLASSES_MAX, Distribution, places_of

NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=30)


def of_numbers(values) -> Distribution:
    found = Distribution()
    found.add_numbers(np.array(values, dtype=np.float64))
    return found


@settings(deadline=None, max_examples=60)
@given(NUMBERS, NUMBERS)
def test_numbers_of_two_workers_add_up(first, second):
    whole, parts = of_numbers([*first, *second]), of_numbers(first)
    parts.merge(of_numbers(second))
    assert (parts.numbers, parts.not_finite, parts.places) == (whole.numbers, whole.not_finite, whole.places)
    assert (parts.lowest, parts.highest) == (whole.lowest, whole.highest)
    assert parts.numbers == sum(parts.places.values())


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9])
def test_a_quantile_is_right_to_a_few_percent(share):
    values = np.random.default_rng(7).normal(-3.0, 2.0, 50_000)
    found, exact = of_numbers(values), float(np.quantile(values, share))
    assert found.quantile(share) == pytest.approx(exact, rel=0.03)
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std())


def test_the_furthest_numbers_have_a_place_too():
    places = places_of(np.array([0.0, 1e-300, -1e-300, 1e300, -1e300, 1.0]))
    assert places.tolist() == [0, 1, -1, 960, -960, 481]


def test_nothing_has_no_quantile():
    found = of_numbers([math.nan])
    assert (found.numbers, found.not_finite) == (0, 1)
    assert all(math.isnan(each) for each in (found.quantile(0.5), found.mean, found.deviation))


def test_numbers_whose_squares_are_too_large_have_a_mean_and_no_deviation():
    found = of_numbers([1e200, 1e200])
    assert found.mean == 1e200
    assert math.isnan(found.deviation)


def test_rare_classes_are_counted_together_and_none_is_lost():
    first, second = Distribution(), Distribution()
    first.add_classes(Counter({f"{n:03}": 10 for n in range(CLASSES_MAX)}))
    second.add_classes(Counter({f"rare {n}": 1 for n in range(50)} | {"000": 5, "a half pair \ud800": 70}))
    first.merge(second)
    assert len(first.classes) == CLASSES_MAX
    assert first.classes["000"] == 15
    assert first.classes["a half pair \\ud800"] == 70
    assert sum(first.classes.values()) + first.other_classes == 10 * CLASSES_MAX + 50 + 75
