"""The policy as a table: availability before memory, and who leaves when that is short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.version_policy import (
    DoesNotFit,
    Evict,
    Fits,
    Forget,
    Load,
    Resident,
    Slot,
    SlotState,
    Standing,
    Unload,
    aspired_versions,
    make_room,
    next_action,
    overgrown,
)
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
        pytest.param(
            [Slot(1, SlotState.UNLOADED, True, lacks_room=True)], None, id="but not what left for want of memory"
        ),
        pytest.param(
            [Slot(1, FAILED, True, retry_due=True, lacks_room=True)],
            None,
            id="nor what was refused for it, however long",
        ),
        pytest.param(
            [Slot(1, READY, True), Slot(2, FAILED, True, lacks_room=True)], None, id="and the champion serves on"
        ),
        pytest.param([Slot(1, FAILED, True, retry_due=True)], Load(1), id="until there is room"),
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
    assert aspired.needed == {("iris", 3), ("iris", 4), ("iris", 5)}
    assert aspired.spare == {("iris", 1), ("other", 7)}
    later = aspired_versions([wish], [RoutingTable(epoch=1, routes=(route,))], pins, now_ms=2_000, warm_ms=1_000)
    assert later.all == aspired.all - {("iris", 1)}


def test_a_pin_on_what_an_arm_needs_makes_it_no_less_needed():
    route = Route(id="e", name="iris", model="iris", salt="", fallback=False, period=1, arms={"champion": 1}, owners=())
    pins = [Pin(model="iris", version=1, author="", created_ms=0)]
    aspired = aspired_versions([], [RoutingTable(epoch=1, routes=(route,))], pins, now_ms=0, warm_ms=0)
    assert (aspired.needed, aspired.spare) == ({("iris", 1)}, frozenset())


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
    assert aspired.needed == {("iris", 1), ("iris", 2), ("iris", 3)}


STAYS, SPARE, LEAVING = Standing.STAYS, Standing.SPARE, Standing.LEAVING


def resident(version, memory_bytes, standing, last_used_s=0.0):
    return Resident(("iris", version), memory_bytes, standing, last_used_s)


@pytest.mark.parametrize(
    ("wanted", "residents", "decision"),
    [
        pytest.param(100, [], Fits(), id="an empty memory"),
        pytest.param(101, [], DoesNotFit(100), id="too large for all of it"),
        pytest.param(40, [resident(1, 60, STAYS)], Fits(), id="beside what is needed"),
        pytest.param(41, [resident(1, 60, STAYS)], DoesNotFit(40), id="what is needed never leaves"),
        pytest.param(41, [resident(1, 60, SPARE)], Evict((("iris", 1),)), id="what is spare does"),
        pytest.param(
            50,
            [resident(1, 40, SPARE, 9.0), resident(2, 40, SPARE, 3.0)],
            Evict((("iris", 2),)),
            id="least recently used first, and no more than must",
        ),
        pytest.param(
            70,
            [resident(1, 30, SPARE, 9.0), resident(2, 30, SPARE, 3.0), resident(3, 30, STAYS)],
            Evict((("iris", 2), ("iris", 1))),
            id="all that are spare",
        ),
        pytest.param(
            80, [resident(1, 30, SPARE), resident(2, 30, STAYS)], DoesNotFit(70), id="nobody leaves for nothing"
        ),
        pytest.param(60, [resident(1, 50, LEAVING)], Evict(()), id="what leaves already is waited for"),
        pytest.param(
            60, [resident(1, 50, LEAVING), resident(2, 50, SPARE)], Evict((("iris", 2),)), id="and others go with it"
        ),
    ],
)
def test_make_room(wanted, residents, decision):
    assert make_room(wanted, residents, bytes_max=100, is_needed=True) == decision


def test_what_only_a_pin_asks_for_takes_free_room_and_nobodys_place():
    spare = [resident(1, 60, SPARE)]
    assert make_room(40, spare, bytes_max=100, is_needed=False) == Fits()
    assert make_room(41, spare, bytes_max=100, is_needed=False) == DoesNotFit(40)
    assert make_room(41, [resident(1, 60, LEAVING)], bytes_max=100, is_needed=False) == Evict(())


@st.composite
def memories(draw):
    """Up to eight versions in memory, and a bound around what they take together."""
    parts = st.tuples(st.integers(0, 50), st.sampled_from(Standing), st.integers(0, 5))
    residents = [resident(n, *part) for n, part in enumerate(draw(st.lists(parts, max_size=8)))]
    return residents, draw(st.integers(0, 300)), draw(st.integers(1, 120))


@given(memories(), st.booleans())
def test_room_is_made_by_the_least_recently_used_spare_ones_and_only_if_it_is_enough(memory, is_needed):
    residents, bytes_max, wanted = memory
    decision = make_room(wanted, residents, bytes_max=bytes_max, is_needed=is_needed)
    staying = sum(r.memory_bytes for r in residents if r.standing is STAYS)
    spare = sorted((r for r in residents if r.standing is SPARE), key=lambda r: (r.last_used_s, r.key))
    total = sum(r.memory_bytes for r in residents)
    match decision:
        case Fits():
            assert total + wanted <= bytes_max
        case Evict(keys):
            assert list(keys) == [r.key for r in spare[: len(keys)]]
            assert is_needed or not keys
            kept = [r.memory_bytes for r in spare[len(keys) :]]
            assert staying + sum(kept) + wanted <= bytes_max < total + wanted
            if keys:
                last = spare[len(keys) - 1].memory_bytes
                assert staying + sum(kept) + last + wanted > bytes_max
        case DoesNotFit(available):
            removable = sum(r.memory_bytes for r in spare) if is_needed else 0
            leaving = sum(r.memory_bytes for r in residents if r.standing is LEAVING)
            assert available == max(0, bytes_max - total + leaving + removable) < wanted


@given(memories())
def test_those_that_have_grown_over_the_bound_leave_until_they_are_below_it(memory):
    residents, bytes_max, _ = memory
    gone = overgrown(residents, bytes_max=bytes_max)
    standings = {r.key: r.standing for r in residents}
    assert all(standings[key] is SPARE for key in gone)
    held = sum(r.memory_bytes for r in residents if r.standing is not LEAVING and r.key not in gone)
    assert held <= bytes_max or all(r.standing is not SPARE or r.key in gone for r in residents)
    if gone:
        last = next(r.memory_bytes for r in residents if r.key == gone[-1])
        assert held + last > bytes_max
