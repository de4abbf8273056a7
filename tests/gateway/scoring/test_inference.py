"""Who answers a request, from a table alone."""

from collections import Counter

import msgspec
import pytest

from gateway.access.identity import Identity, NotPermitted
from gateway.observability.metrics import Metrics
from gateway.pool.model_pool import ModelPool
from gateway.routing_table import CurrentTable, LiveTable
from gateway.scoring.batching import Deadline, Limits
from gateway.scoring.inference import (
    EndpointNotNamed,
    EndpointNotServed,
    Inference,
    KeptBehindGates,
    ModelNotReady,
    NoSuchArm,
    NoTableYet,
    StageIsNoRoute,
    Target,
    VersionNotInMemory,
)
from gateway.scoring.routing import bucket_of
from registry.entities import Route, RoutingTable
from tracking.access.book import KnownKey
from tracking.access.grants import Grant
from tracking.errors import PermissionDenied


def route(name="iris", **arms):
    arms = arms or {"champion": 3, "challenger": 4}
    owners = (("challenger", 2_000), ("champion", 8_000)) if "challenger" in arms else (("champion", 10_000),)
    return Route(id=f"id-{name}", name=name, model=name, salt="s", fallback=False, period=1, arms=arms, owners=owners)


@pytest.fixture
def inference():
    current = CurrentTable()
    current.switch(LiveTable(RoutingTable(epoch=7, routes=(route(), route("a@b", champion=1)))))
    pool = ModelPool(frame_bytes_max=1, drain_timeout_s=1, changed=lambda _: None, stuck=lambda _: None)
    limits = Limits(rows_max=1, bytes_max=1, waiting_max=1)
    return Inference(current, pool, limits=limits, patience_s=1, metrics=Metrics())


@pytest.mark.parametrize(
    ("target", "arm", "version"),
    [
        pytest.param(Target("iris", arm="challenger"), "challenger", 4, id="forced by header"),
        pytest.param(Target("iris@challenger"), "challenger", 4, id="pinned in the name"),
        pytest.param(Target("models:/iris@challenger"), "challenger", 4, id="pinned by URI"),
        pytest.param(Target("iris@challenger", arm="champion"), "champion", 3, id="the header wins"),
        pytest.param(Target("a@b"), "champion", 1, id="a whole name with an @ comes first"),
        pytest.param(Target("iris", version=4), "", 4, id="by number"),
        pytest.param(Target("models:/iris/4"), "", 4, id="by number in a URI"),
    ],
)
def test_a_target_is_answered_by(inference, target, arm, version):
    choice = inference.choose(target)
    assert (choice.arm, choice.version, choice.epoch) == (arm, version, 7)


def test_a_version_behind_a_gates_bound_is_asked_by_no_name_and_goes_on_taking_its_share(inference):
    behind = msgspec.structs.replace(route(), by_name=(3,))
    inference._current.switch(LiveTable(RoutingTable(epoch=8, routes=(behind,))))
    for target in (Target("iris", arm="challenger"), Target("iris@challenger"), Target("iris", version=4)):
        with pytest.raises(KeptBehindGates, match="Version 4 of 'iris' may take no more than a share"):
            inference.choose(target)
    for target in (Target("iris", arm="champion"), Target("iris", version=3)):
        assert inference.choose(target).version == 3
    assert {inference.choose(Target("iris")).arm for _ in range(200)} == {"champion", "challenger"}


def test_a_load_test_of_somebody_who_may_bring_one_asks_for_a_version_behind_a_gates_bound(inference):
    behind = msgspec.structs.replace(route(), by_name=(3,))
    inference._current.switch(LiveTable(RoutingTable(epoch=8, routes=(behind,))))
    load_test = Target("iris", version=4, is_load_test=True)
    assert inference.choose(load_test).version == 4
    assert inference.choose(load_test, identity("scorer", "promoter")).version == 4
    for of_another in ("scorer", "load_test:write:model:rose"):
        with pytest.raises(KeptBehindGates):
            inference.choose(load_test, identity("scorer", "score:forced", of_another))
    with pytest.raises(KeptBehindGates):
        inference.choose(Target("iris", arm="challenger", is_load_test=True))


def test_champion_in_a_name_is_the_endpoint_split_and_all(inference):
    chosen = Counter(inference.choose(Target("iris@champion", unit=f"u{n}")).arm for n in range(2_000))
    assert 300 < chosen["challenger"] < 500


def test_only_what_the_split_gave_to_an_arm_has_a_bucket(inference):
    choice, bucket = inference.assign(Target("iris", unit="ann"))
    assert bucket == bucket_of("id-iris", "s", "ann")
    assert choice.arm == ("challenger" if bucket < 2_000 else "champion")
    assert inference.assign(Target("iris"))[1] in range(10_000)
    for named in (Target("iris", arm="challenger"), Target("iris@challenger"), Target("iris", version=4)):
        assert inference.assign(named)[1] is None


def test_a_unit_sticks_and_requests_without_one_spread(inference):
    assert len({inference.choose(Target("iris", unit="ann")).arm for _ in range(50)}) == 1
    assert len({inference.choose(Target("iris")).arm for _ in range(200)}) == 2


def test_what_is_not_there_is_named(inference):
    with pytest.raises(EndpointNotServed, match="a@b, iris"):
        inference.choose(Target("nothing"))
    with pytest.raises(EndpointNotNamed, match="--model"):
        inference.choose(Target(None))
    with pytest.raises(StageIsNoRoute, match="Production"):
        inference.choose(Target("models:/iris/Production"))
    with pytest.raises(NoSuchArm, match="challenger, champion"):
        inference.choose(Target("iris", arm="third"))


def identity(*grants, key=None):
    return Identity("ann", tuple(map(Grant.parse, grants)), key=key, _callers={})


SHOP = KnownKey("k", "shop", ("ir*",), may_force=False, may_pin=False, rate=None, expires_ms=None)


@pytest.mark.parametrize(
    "caller", [identity("scorer:model:iris"), identity(key=SHOP)], ids=["a token for its model", "a key for it"]
)
def test_to_whoever_may_ask_one_endpoint_it_is_the_only_one(inference, caller):
    for _ in range(2):
        assert inference.choose(Target(None), caller).endpoint == "iris"
    # Whether they are there or not.
    for name in ("a@b", "a", "other"):
        with pytest.raises(PermissionDenied):
            inference.choose(Target(name), caller)
    with pytest.raises(EndpointNotServed, match=r"there are: iris\.$"):
        inference.choose(Target("ir"), identity("scorer:model:ir*"))


def test_whoever_may_ask_nothing_is_told_so(inference):
    for target in (Target(None), Target("iris"), Target("other")):
        with pytest.raises(NotPermitted, match="it takes score"):
            inference.choose(target, identity("viewer"))


async def _predict(inference, target):
    await inference.predict(
        inference.choose(target), lambda: pytest.fail("the body is read only for a version held"), Deadline(9e9, 1)
    )


@pytest.mark.parametrize(
    ("target", "error"),
    [
        pytest.param(Target("iris"), ModelNotReady, id="an arm whose process is being replaced: later"),
        pytest.param(Target("iris", version=9), VersionNotInMemory, id="a number that isn't held: never by itself"),
    ],
)
def test_a_version_that_is_not_in_memory_is_refused_before_the_body_is_read(inference, target, error):
    coroutine = _predict(inference, target)
    with pytest.raises(error):
        coroutine.send(None)


def test_before_the_first_table_a_caller_is_told_to_come_back(inference):
    pool = ModelPool(frame_bytes_max=1, drain_timeout_s=1, changed=lambda _: None, stuck=lambda _: None)
    early = Inference(
        CurrentTable(), pool, limits=Limits(rows_max=1, bytes_max=1, waiting_max=1), patience_s=1, metrics=Metrics()
    )
    with pytest.raises(NoTableYet):
        early.choose(Target("iris"))
