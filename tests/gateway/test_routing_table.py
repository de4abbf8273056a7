"""What a worker knows of who answers, made of one route."""

import msgspec
import pytest

from gateway.routing_table import LiveRoute
from registry.entities import NO_PERIOD, Route

ROUTE = Route(
    id="e1",
    name="flowers",
    model="iris",
    salt="s",
    fallback=True,
    period=3,
    arms={"champion": 1, "challenger": 2, "twin": 1},
    owners=(("challenger", 1_000), ("champion", 9_000)),
)


def choice(arm, **changed):
    return LiveRoute(msgspec.structs.replace(ROUTE, **changed), 7).choice(arm)


def test_a_choice_is_made_once_an_epoch():
    route = LiveRoute(ROUTE, 7)
    found = route.choice("challenger")
    assert found is route.choice("challenger")
    assert (found.endpoint, found.model, found.version, found.arm, found.epoch) == (
        *("flowers", "iris", 2, "challenger"),
        7,
    )
    assert (found.endpoint_id, found.period) == ("e1", 3)


def test_an_arm_falls_back_on_the_champion_if_that_is_wanted_and_another_version():
    assert choice("challenger").fallback == choice("champion")
    assert choice("challenger", fallback=False).fallback is None
    assert choice("champion").fallback is None
    assert choice("twin").fallback is None


@pytest.mark.parametrize(
    ("changed", "compared"),
    [
        pytest.param({}, True, id="several arms"),
        pytest.param({"arms": {"champion": 1}}, False, id="one arm"),
        pytest.param({"period": NO_PERIOD}, False, id="while an arm is on its way in"),
    ],
)
def test_arms_are_compared_where_there_are_several_that_get_what_the_split_says(changed, compared):
    assert choice("champion", **changed).is_compared == compared
