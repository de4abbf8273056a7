"""Which arm shadows: desired state like all else, and inputs that are kept only while somebody asks for them."""

import pytest

from registry import aliases, endpoints, history, shadows
from registry.endpoints import ArmWithoutAlias, EndpointNotFound
from registry.entities import CHALLENGER, CHAMPION, RoutingTable, Shadow
from registry.routing_plan import next_routes
from registry.shadows import ChampionIsNoShadow, KeptInput
from tracking.errors import InvalidParameter

BY = {"author": "ann", "now_ms": 1}
SHADOW = Shadow(arm="candidate")


@pytest.fixture
def session(database, iris, add_version):
    """Of a model whose version 1 is champion and whose version 2 is `candidate`, which is no arm yet."""
    add_version(iris)
    add_version(iris)
    with database.writing() as session:
        aliases.set_alias(session, iris, CHAMPION, 1, **BY)
        aliases.set_alias(session, iris, "candidate", 2, **BY)
        yield session


@pytest.fixture
def endpoint_id(session):
    return endpoints.get_endpoint(session, "iris").id


def wish(session):
    (found,) = endpoints.desired_routes(session, now_ms=1)
    return found


def kept(number, difference, *, labels_differ=False, version=2, said="x"):
    return KeptInput(
        labels_differ=labels_differ,
        difference=difference,
        input={"number": number, "said": said},
        given=[0],
        given_by=(CHAMPION, 1),
        shadows=[1],
        version=version,
        at_ms=1,
    )


def numbers(session):
    return [one.input["number"] for one in shadows.list_inputs(session, "iris")]


def test_a_shadow_joins_dark_is_aspired_and_ends_with_its_alias(session, endpoint_id):
    shadows.set_shadow(session, "iris", SHADOW, **BY)
    assert endpoints.get_split(session, endpoint_id).shares_bp == {CHAMPION: 10_000, "candidate": 0}
    assert wish(session).shadow == SHADOW
    assert wish(session).versions == {CHAMPION: 1, "candidate": 2}
    aliases.delete_alias(session, "iris", "candidate", **BY)
    aliases.set_alias(session, "iris", "candidate", 2, **BY)
    assert wish(session).shadow is None
    said = history.list_history(session, "iris").items
    changes = [entry.details["shadow"] for entry in said if entry.action == "shadow_changed"]
    assert changes == [None, {"arm": "candidate", "share_bp": 10_000, "keep_inputs": 0, "tolerance": 1e-6}]


def test_a_shadow_that_is_set_anew_stands_in_the_place_of_the_one_before(session):
    shadows.set_shadow(session, "iris", SHADOW, **BY)
    entries = len(history.list_history(session, "iris").items)
    shadows.set_shadow(session, "iris", SHADOW, **BY)
    assert len(history.list_history(session, "iris").items) == entries
    aliases.set_alias(session, "iris", CHALLENGER, 2, **BY)
    other = Shadow(arm=CHALLENGER, share_bp=100, keep_inputs=3, tolerance=0.5)
    shadows.set_shadow(session, "iris", other, **BY)
    assert wish(session).shadow == other
    shadows.remove_shadow(session, "iris", **BY)
    shadows.remove_shadow(session, "iris", **BY)
    assert wish(session).shadow is None
    assert wish(session).versions == {CHAMPION: 1, "candidate": 2, CHALLENGER: 2}


@pytest.mark.parametrize(
    ("name", "shadow", "error"),
    [
        pytest.param("iris", Shadow(arm=CHAMPION), ChampionIsNoShadow, id="the champion"),
        pytest.param("iris", Shadow(arm="nobody"), ArmWithoutAlias, id="no alias"),
        pytest.param("other", SHADOW, EndpointNotFound, id="no endpoint"),
        pytest.param("iris", Shadow(arm="candidate", share_bp=0), InvalidParameter, id="no share"),
        pytest.param("iris", Shadow(arm="candidate", share_bp=10_001), InvalidParameter, id="more than all"),
        pytest.param("iris", Shadow(arm="candidate", keep_inputs=101), InvalidParameter, id="too many inputs"),
        pytest.param("iris", Shadow(arm="candidate", keep_inputs=-1), InvalidParameter, id="fewer than none"),
        pytest.param("iris", Shadow(arm="candidate", tolerance=float("nan")), InvalidParameter, id="no tolerance"),
    ],
)
def test_what_cannot_be_a_shadow_is_refused_and_changes_nothing(session, name, shadow, error):
    before = wish(session)
    with pytest.raises(error):
        shadows.set_shadow(session, name, shadow, **BY)
    assert wish(session) == before


def test_the_table_names_a_shadow_once_its_version_is_ready(session):
    shadows.set_shadow(session, "iris", SHADOW, **BY)
    ready = {("iris", 1), ("iris", 2)}
    (late,) = next_routes(RoutingTable(), [wish(session)], {("iris", 1)})
    assert late.shadow is None
    (route,) = next_routes(RoutingTable(routes=(late,)), [wish(session)], ready)
    assert route.shadow == SHADOW
    assert route.arms == {CHAMPION: 1, "candidate": 2}


def test_no_input_is_kept_unless_asked_for_and_then_those_that_differ_most(session, endpoint_id):
    shadows.keep_inputs(session, endpoint_id, [kept(0, 1.0)])
    shadows.set_shadow(session, "iris", SHADOW, **BY)
    shadows.keep_inputs(session, endpoint_id, [kept(0, 1.0)])
    assert numbers(session) == []

    shadows.set_shadow(session, "iris", Shadow(arm="candidate", keep_inputs=3), **BY)
    shadows.keep_inputs(session, endpoint_id, [kept(number, float(number)) for number in range(5)])
    assert numbers(session) == [4, 3, 2]
    # A label before any number, an infinity before any other; the same input once, and none that is too large.
    some = [kept(3, 9.0), kept(7, None), kept(8, 0.0, labels_differ=True), kept(9, 99.0, said="x" * 20_000)]
    shadows.keep_inputs(session, endpoint_id, some)
    assert numbers(session) == [8, 7, 3]
    shadows.set_shadow(session, "iris", Shadow(arm="candidate", keep_inputs=2), **BY)
    assert numbers(session) == [8, 7]


def test_inputs_go_with_what_they_were_kept_for(session, endpoint_id):
    keeping = Shadow(arm="candidate", keep_inputs=3)
    shadows.set_shadow(session, "iris", keeping, **BY)
    shadows.keep_inputs(session, endpoint_id, [kept(1, 9.0)])
    # Another version of the arm has differences of its own.
    shadows.keep_inputs(session, endpoint_id, [kept(2, 1.0, version=3)])
    assert numbers(session) == [2]
    for let_go in (
        lambda: shadows.forget_inputs(session, "iris"),
        lambda: shadows.set_shadow(session, "iris", SHADOW, **BY),
        lambda: shadows.remove_shadow(session, "iris", **BY),
    ):
        shadows.set_shadow(session, "iris", keeping, **BY)
        shadows.keep_inputs(session, endpoint_id, [kept(3, 1.0)])
        assert numbers(session) == [3]
        let_go()
        assert numbers(session) == []
