"""Whether the champion helps out is desired state like all else, and every change of it is in the history."""

import pytest

from registry import aliases, endpoints, fallbacks, history, serving
from registry.endpoints import EndpointNotFound
from registry.entities import CHAMPION, Action, RoutingTable
from registry.routing_plan import next_routes

BY = {"author": "ann", "now_ms": 1}


@pytest.fixture
def session(database, iris, add_version):
    add_version(iris)
    with database.writing() as session:
        aliases.set_alias(session, iris, CHAMPION, 1, **BY)
        yield session


def test_it_is_in_the_next_table_and_begins_no_period(session):
    for on in (True, False):
        generation = serving.generation(session)
        fallbacks.set_fallback(session, "iris", on=on, **BY)
        assert serving.generation(session) > generation
        wishes = endpoints.desired_routes(session, now_ms=1)
        (route,) = next_routes(RoutingTable(), wishes, {("iris", 1): None})
        assert (route.fallback, route.period) == (on, 1)


def test_only_a_change_is_in_the_history(session):
    for on in (True, True, False):
        fallbacks.set_fallback(session, "iris", on=on, **BY)
    entries = [each for each in history.list_history(session, "iris").items if each.action == Action.FALLBACK_CHANGED]
    assert [each.details for each in entries] == [{"endpoint": "iris", "fallback": on} for on in (False, True)]


def test_of_no_endpoint_there_is_none(session):
    with pytest.raises(EndpointNotFound):
        fallbacks.set_fallback(session, "nothing", on=True, **BY)
