"""The policy as a table: availability before memory."""

import pytest

from gateway.pool.version_policy import Forget, Load, Slot, SlotState, Unload, aspired_versions, next_action
from registry.entities import DesiredRoute, Endpoint, Pin, Route, RoutingTable, Split

NEW, LOADING, READY, FAILED = SlotState.NEW, SlotState.LOADING, SlotState.READY, SlotState.FAILED


@pytest.mark.parametrize(
    ("slots", "action"),
    [
        pytest.param([], None, id="nothing to do"),
        pytest.param([Slot(1, READY, True)], None, id="settled"),
        pytest.param([Slot(1, READY, False), Slot(2, NEW, True)], Load(2), id="new version loads first"),
        pytest.param([Slot(1, READY, False), Slot(2, LOADING, True)], None, id="and the old one waits for it"),
        pytest.param([Slot(1, READY, False), Slot(2, READY, True)], Unload(1), id="then the old one goes"),
        pytest.param([Slot(1, READY, True), Slot(2, FAILED, True)], None, id="a bad artifact takes nothing"),
        pytest.param([Slot(2, FAILED, True, retry_due=True)], Load(2), id="it is tried again when its pause is over"),
        pytest.param([Slot(1, READY, False), Slot(2, FAILED, True)], Unload(1), id="and keeps nobody in memory"),
        pytest.param([Slot(2, FAILED, False)], Forget(2), id="a failure that nobody waits for is forgotten"),
        pytest.param([Slot(1, NEW, True), Slot(2, NEW, True)], Load(2), id="the newest first"),
        pytest.param([Slot(1, SlotState.DRAINING, True)], None, id="wanted again while it drains: wait, then load"),
        pytest.param([Slot(1, SlotState.UNLOADED, False)], Forget(1), id="what is unloaded is forgotten"),
        pytest.param([Slot(1, SlotState.UNLOADED, True)], Load(1), id="or loaded again if it is wanted by then"),
    ],
)
def test_next_action(slots, action):
    assert next_action(slots) == action


def test_aspired_are_arms_the_epoch_the_warm_former_champion_and_pins():
    endpoint = Endpoint(
        id="e", name="iris", model="iris", salt="", former_champion=1, former_since_ms=1_000, created_ms=0
    )
    split = Split(
        endpoint_id="e", period=1, shares_bp={}, owners=(("champion", 10_000),), reason="", author="", created_ms=0
    )
    wish = DesiredRoute(endpoint=endpoint, split=split, versions={"champion": 4, "challenger": 5})
    route = Route(
        id="e",
        name="iris",
        model="iris",
        salt="",
        fallback=False,
        period=1,
        arms={"champion": 3},
        owners=(("champion", 10_000),),
    )
    pins = [Pin(model="other", version=7, author="", created_ms=0)]
    aspired = aspired_versions([wish], [RoutingTable(epoch=1, routes=(route,))], pins, now_ms=1_500, warm_ms=1_000)
    assert aspired == {("iris", 1), ("iris", 3), ("iris", 4), ("iris", 5), ("other", 7)}
    later = aspired_versions([wish], [RoutingTable(epoch=1, routes=(route,))], pins, now_ms=2_000, warm_ms=1_000)
    assert later == aspired - {("iris", 1)}


def test_what_is_still_answered_from_stays_until_every_worker_has_switched():
    def table(epoch, challenger):
        route = Route(
            id="e",
            name="iris",
            model="iris",
            salt="",
            fallback=False,
            period=1,
            arms={"champion": 1, "challenger": challenger},
            owners=(("challenger", 10_000),),
        )
        return RoutingTable(epoch=epoch, routes=(route,))

    aspired = aspired_versions([], [table(2, challenger=3), table(1, challenger=2)], [], now_ms=0, warm_ms=0)
    assert aspired == {("iris", 1), ("iris", 2), ("iris", 3)}
