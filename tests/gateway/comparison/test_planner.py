"""How many units it takes; that it is enough is simulated in test_simulations.py."""

import math

import pytest
from scipy.stats import norm

from gateway.comparison.confidence_sequences import asymptotic_half_width
from gateway.comparison.planner import PlanImpossible, plan_means, plan_rates


def test_at_the_planned_size_the_half_width_leaves_room_for_the_power():
    plan = plan_rates(0.2, 0.03)
    s2 = 2 * (0.2 * 0.8 + 0.23 * 0.77)
    reached = float(asymptotic_half_width(s2, plan.units, alpha=0.05)) + norm.ppf(0.8) * math.sqrt(s2 / plan.units)
    assert reached == pytest.approx(0.03, rel=1e-3)
    assert (plan.requests, plan.challenger_units) == (plan.units, math.ceil(plan.units / 2))


def test_half_the_difference_takes_about_four_times_as_many():
    assert 3.9 < plan_rates(0.2, 0.005).units / plan_rates(0.2, 0.01).units < 4.7


def test_an_uneven_split_takes_more():
    even, uneven = (plan_means(0.1, champion_variance=1, challenger_variance=1, challenger_share=s) for s in (0.5, 0.1))
    assert uneven.units / even.units == pytest.approx((1 / 0.9 + 1 / 0.1) / 4, rel=0.01)
    assert uneven.challenger_units == pytest.approx(uneven.units / 10, abs=1)


def test_requests_of_one_unit_help_as_far_as_they_differ():
    def units(**options):
        return plan_rates(0.2, 0.03, **options).units

    assert units(requests_per_unit=10) == pytest.approx(units() / 10, abs=1)
    assert units(requests_per_unit=10, likeness=1) == units()


def test_a_plan_says_how_long_it_takes():
    plan = plan_rates(0.2, 0.03)
    assert plan.days(plan.units / 7) == pytest.approx(7)


@pytest.mark.parametrize(
    ("rate", "difference", "options"),
    [
        pytest.param(0.2, 0.0, {}, id="no difference"),
        pytest.param(0.99, 0.02, {}, id="over 1"),
        pytest.param(0.2, 0.1, {"challenger_share": 0.0}, id="no share"),
        pytest.param(0.2, 0.1, {"likeness": 2.0}, id="too alike"),
        pytest.param(0.2, 1e-9, {}, id="too small"),
    ],
)
def test_what_cannot_be_planned_is_refused(rate, difference, options):
    with pytest.raises(PlanImpossible):
        plan_rates(rate, difference, **options)


def test_a_large_difference_takes_few():
    assert plan_means(50.0, champion_variance=1, challenger_variance=1).units < 40
