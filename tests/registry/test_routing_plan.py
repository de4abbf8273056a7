"""What is served next, as a table of decisions."""

import msgspec
import pytest

from registry.entities import NO_PERIOD, DesiredRoute, Endpoint, Route, RoutingTable, Split
from registry.routing_plan import next_routes

ENDPOINT = Endpoint(id="e1", name="iris", model="iris", salt="s", created_ms=0)
SPLIT = Split(
    endpoint_id="e1",
    period=2,
    shares_bp={"champion": 8_000, "challenger": 2_000},
    owners=(("challenger", 2_000), ("champion", 8_000)),
    reason="",
    author="",
    created_ms=0,
)


def wish(**versions):
    return DesiredRoute(endpoint=ENDPOINT, split=SPLIT, versions=versions)


def served(**arms):
    owners = SPLIT.owners if "challenger" in arms else (("champion", 10_000),)
    route = Route(
        id="e1", name="iris", model="iris", salt="s", fallback=False, period=2, arms=dict(arms), owners=owners
    )
    return RoutingTable(epoch=1, routes=(route,))


def ready(*versions):
    return {("iris", version) for version in versions}


@pytest.mark.parametrize(
    ("current", "desired", "in_memory", "arms"),
    [
        pytest.param(RoutingTable(), wish(champion=1), ready(), None, id="nothing before the champion is ready"),
        pytest.param(RoutingTable(), wish(champion=1), ready(1), {"champion": 1}, id="first champion"),
        pytest.param(
            RoutingTable(), wish(champion=1, challenger=2), ready(1), {"champion": 1}, id="challenger loads behind"
        ),
        pytest.param(
            served(champion=1),
            wish(champion=2),
            ready(1),
            {"champion": 1},
            id="the old one serves until the new is ready",
        ),
        pytest.param(served(champion=1), wish(champion=2), ready(1, 2), {"champion": 2}, id="the flip"),
        pytest.param(
            served(champion=1, challenger=2),
            wish(champion=1, challenger=3),
            ready(1, 2),
            {"champion": 1, "challenger": 2},
            id="a bad challenger keeps the one before",
        ),
        pytest.param(
            served(champion=1, challenger=2),
            wish(champion=2, challenger=2),
            ready(1, 2),
            {"champion": 2, "challenger": 2},
            id="promotion: both arms are one version",
        ),
        pytest.param(
            served(champion=1), wish(), ready(1), {"champion": 1}, id="a deleted champion alias leaves it in service"
        ),
        pytest.param(
            served(champion=1, challenger=2), wish(champion=1), ready(1, 2), {"champion": 1}, id="a deleted arm goes"
        ),
        pytest.param(
            served(champion=1),
            wish(champion=1),
            ready(),
            {"champion": 1},
            id="a crashed host takes nothing off the table",
        ),
    ],
)
def test_next_routes(current, desired, in_memory, arms):
    routes = next_routes(current, [desired], in_memory)
    assert [route.arms for route in routes] == ([] if arms is None else [arms])


def test_an_arm_that_never_served_leaves_its_buckets_with_the_champion():
    (route,) = next_routes(RoutingTable(), [wish(champion=1, challenger=2)], ready(1))
    assert route.owners == (("champion", 10_000),)
    # By which nothing is to be compared.
    assert route.period == NO_PERIOD
    (route,) = next_routes(RoutingTable(routes=(route,)), [wish(champion=1, challenger=2)], ready(1, 2))
    assert (route.owners, route.period) == (SPLIT.owners, SPLIT.period)


@pytest.mark.parametrize(
    ("began", "wanted", "in_memory", "period"),
    [
        pytest.param(1, 3, ready(1, 2), NO_PERIOD, id="a split that is to be answered by another version"),
        pytest.param(1, 3, ready(1, 2, 3), 2, id="once that is there"),
        pytest.param(1, 2, ready(1), 2, id="a version that serves already, on a replica that fetches it again"),
        pytest.param(2, 3, ready(1, 2), 2, id="an alias that moves later, until it is followed"),
        pytest.param(2, 3, ready(1, 2, 3), 2, id="and then"),
        pytest.param(2, None, ready(1, 2), NO_PERIOD, id="an arm that is gone"),
    ],
)
def test_a_period_begins_when_each_arm_is_what_it_should_be(began, wanted, in_memory, period):
    (before,) = served(champion=1, challenger=2).routes
    current = RoutingTable(routes=(msgspec.structs.replace(before, period=began),))
    desired = wish(champion=1) if wanted is None else wish(champion=1, challenger=wanted)
    (route,) = next_routes(current, [desired], in_memory)
    assert route.period == period


def test_an_arm_in_the_dark_keeps_no_period_waiting():
    dark = msgspec.structs.replace(
        SPLIT, shares_bp={"champion": 10_000, "challenger": 0}, owners=(("champion", 10_000),)
    )
    desired = DesiredRoute(endpoint=ENDPOINT, split=dark, versions={"champion": 1, "challenger": 2})
    (route,) = next_routes(RoutingTable(), [desired], ready(1))
    assert route.period == dark.period


def test_a_renamed_model_answers_as_before_until_its_new_name_is_loaded():
    renamed = DesiredRoute(
        endpoint=Endpoint(id="e1", name="iris", model="iris2", salt="s", created_ms=0),
        split=SPLIT,
        versions={"champion": 1},
    )
    current = served(champion=1)
    assert next_routes(current, [renamed], ready(1)) == current.routes
    (after,) = next_routes(current, [renamed], {("iris2", 1)})
    assert (after.model, after.name, after.id) == ("iris2", "iris", "e1")


def test_a_stopped_endpoint_leaves_the_table():
    assert next_routes(served(champion=1), [], ready(1)) == ()


def test_what_gates_say_of_names_holds_at_once_even_where_nothing_is_ready():
    renamed = msgspec.structs.replace(ENDPOINT, model="best")
    for endpoint, in_memory in ((ENDPOINT, ready(1)), (renamed, ready())):
        desired = DesiredRoute(endpoint=endpoint, split=SPLIT, versions={"champion": 1}, by_name=(1,))
        [route] = next_routes(served(champion=1), [desired], in_memory)
        assert (route.arms, route.by_name) == ({"champion": 1}, (1,))
