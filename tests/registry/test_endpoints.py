"""What alias writes and split changes do to routing, to the letter of the route semantics."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import endpoints, epochs, models, serving
from registry.entities import SlotStatus
from registry.schema import AliasRow, ModelVersionRow, RegisteredModelRow
from registry.splits import BUCKETS, SharesDoNotAddUp, expand
from tests.registry.test_splits import ARMS
from tests.registry.test_splits import shares as shares_of_arms
from tracking.errors import InvalidParameter

NOW = 1_700_000_000_000


@pytest.fixture
def session(database):
    with database.writing() as session:
        session.add(RegisteredModelRow(name="iris", latest_version=3, created_ms=NOW, updated_ms=NOW))
        session.flush()
        for version in (1, 2, 3):
            session.add(
                ModelVersionRow(
                    name="iris", version=version, source="s", artifact_uri="s", created_ms=NOW, updated_ms=NOW
                )
            )
        session.flush()
        yield session


def set_alias(session, alias, version):
    row = session.get(AliasRow, ("iris", alias))
    if row is None:
        session.add(AliasRow(name="iris", alias=alias, version=version))
    else:
        row.version = version
    session.flush()
    endpoints.alias_was_set(session, "iris", alias, version, author="ann", now_ms=NOW)
    session.flush()


def delete_alias(session, alias):
    session.delete(session.get(AliasRow, ("iris", alias)))
    session.flush()
    endpoints.alias_was_deleted(session, "iris", alias, author="ann", now_ms=NOW)
    session.flush()


def shares(session):
    return endpoints.get_split(session, endpoints.get_endpoint(session, "iris").id).shares_bp


def hold_ready(session, *versions, replica="a", at_ms=NOW):
    slots = [SlotStatus(model="iris", version=version, state="READY") for version in versions]
    serving.heartbeat(session, replica, slots=slots, epoch=0, now_ms=at_ms, lease_ms=5_000)
    session.flush()


def commit(session, at_ms=NOW):
    table = epochs.commit_epoch(session, now_ms=at_ms, lead_ms=200)
    session.flush()
    return table


def test_the_first_champion_makes_the_endpoint_and_a_waiting_challenger_joins_dark(session):
    set_alias(session, "challenger", 2)
    with pytest.raises(endpoints.EndpointNotFound):
        endpoints.get_endpoint(session, "iris")
    set_alias(session, "champion", 1)
    assert shares(session) == {"champion": 10_000, "challenger": 0}


def test_every_alias_write_raises_the_generation(session):
    before = serving.generation(session)
    set_alias(session, "staging", 1)
    set_alias(session, "champion", 1)
    assert serving.generation(session) >= before + 2


def test_promoting_the_challengers_version_gives_the_champion_all_traffic_in_a_new_period(session):
    set_alias(session, "champion", 1)
    set_alias(session, "challenger", 2)
    endpoints.change_split(session, "iris", {"champion": 8_000, "challenger": 2_000}, author="ann", now_ms=NOW)
    session.flush()
    set_alias(session, "champion", 2)
    split = endpoints.get_split(session, endpoints.get_endpoint(session, "iris").id)
    assert split.shares_bp == {"champion": 10_000, "challenger": 0}
    assert split.period == 4
    assert session.get(AliasRow, ("iris", "challenger")).version == 2


def test_a_deleted_arm_is_dormant_and_does_not_come_back_by_itself(session):
    set_alias(session, "champion", 1)
    set_alias(session, "challenger", 2)
    endpoints.change_split(session, "iris", {"champion": 7_000, "challenger": 3_000}, author="ann", now_ms=NOW)
    delete_alias(session, "challenger")
    split = endpoints.get_split(session, endpoints.get_endpoint(session, "iris").id)
    assert (split.shares_bp, split.dormant_bp) == ({"champion": 10_000}, {"challenger": 3_000})
    set_alias(session, "challenger", 3)
    assert shares(session) == {"champion": 10_000, "challenger": 0}


def test_split_changes_name_what_is_wrong(session):
    set_alias(session, "champion", 1)
    with pytest.raises(SharesDoNotAddUp):
        endpoints.change_split(session, "iris", {"champion": 9_000}, author="ann", now_ms=NOW)
    with pytest.raises(endpoints.ArmWithoutAlias, match="champion"):
        endpoints.change_split(session, "iris", {"champion": 0, "nobody": 10_000}, author="ann", now_ms=NOW)
    with pytest.raises(endpoints.EndpointNotFound):
        endpoints.change_split(session, "none", {"champion": 10_000}, author="ann", now_ms=NOW)


def test_an_epoch_waits_for_every_live_replica_and_not_for_dead_ones(session):
    set_alias(session, "champion", 1)
    hold_ready(session, 1, replica="a")
    hold_ready(session, replica="b")
    assert commit(session) is None
    hold_ready(session, 1, replica="a", at_ms=NOW + 6_000)
    table = commit(session, NOW + 6_000)
    assert table.routes[0].arms == {"champion": 1}
    assert table.activate_at_ms == NOW + 6_200
    assert commit(session, NOW + 6_000) is None


def test_a_version_counts_as_ready_only_with_the_bytes_that_it_is_registered_with(session):
    set_alias(session, "champion", 1)
    session.get(ModelVersionRow, ("iris", 1)).digest = "new"
    # As after the model was deleted and made anew, while a replica still holds the old version 1.
    stale = SlotStatus(model="iris", version=1, state="READY", digest="old")
    serving.heartbeat(session, "a", slots=[stale], epoch=0, now_ms=NOW, lease_ms=5_000)
    session.flush()
    assert commit(session) is None
    fresh = SlotStatus(model="iris", version=1, state="READY", digest="new")
    serving.heartbeat(session, "a", slots=[fresh], epoch=0, now_ms=NOW, lease_ms=5_000)
    session.flush()
    assert commit(session).routes[0].arms == {"champion": 1}


def test_a_flip_remembers_the_former_champion(session):
    set_alias(session, "champion", 1)
    hold_ready(session, 1, 2)
    commit(session)
    set_alias(session, "champion", 2)
    commit(session)
    endpoint = endpoints.get_endpoint(session, "iris")
    assert (endpoint.former_champion, endpoint.former_since_ms) == (1, NOW)


def test_a_version_in_service_and_its_model_cannot_be_deleted_until_the_endpoint_is_stopped(session):
    set_alias(session, "champion", 1)
    hold_ready(session, 1)
    commit(session)
    with pytest.raises(endpoints.VersionInService, match="endpoint 'iris'"):
        endpoints.ensure_version_deletable(session, "iris", 1)
    with pytest.raises(endpoints.VersionInService):
        endpoints.ensure_model_deletable(session, "iris")
    endpoints.ensure_version_deletable(session, "iris", 3)
    endpoints.stop_endpoint(session, "iris", author="me", now_ms=1)
    session.flush()
    assert commit(session).routes == ()
    endpoints.ensure_model_deletable(session, "iris")


def test_deleting_the_champion_alias_leaves_the_version_last_served_in_service(session):
    set_alias(session, "champion", 1)
    hold_ready(session, 1)
    commit(session)
    delete_alias(session, "champion")
    assert commit(session) is None
    assert serving.newest_table(session).routes[0].arms == {"champion": 1}


def test_renaming_the_model_keeps_the_endpoints_id_and_name(session):
    set_alias(session, "champion", 1)
    before = endpoints.get_endpoint(session, "iris")
    endpoints.model_was_renamed(session, "iris", "flower")
    session.flush()
    after = endpoints.get_endpoint(session, "iris")
    assert (after.id, after.name, after.model) == (before.id, "iris", "flower")


def test_a_name_is_taken_for_as_long_as_the_model_that_had_it_is_answered_from_under_it(session):
    set_alias(session, "champion", 1)
    hold_ready(session, 1)
    commit(session)
    models.rename_model(session, "iris", "flower", author="me", now_ms=NOW)
    session.flush()
    with pytest.raises(endpoints.NameInService, match="'iris'"):
        models.create_model(session, "iris", now_ms=NOW)
    # Its own old name back, and away again, is the same model throughout.
    models.rename_model(session, "flower", "iris", author="me", now_ms=NOW)
    models.rename_model(session, "iris", "flower", author="me", now_ms=NOW)
    serving.heartbeat(
        session,
        "a",
        slots=[SlotStatus(model="flower", version=1, state="READY")],
        epoch=0,
        now_ms=NOW,
        lease_ms=5_000,
    )
    session.flush()
    assert commit(session).routes[0].model == "flower"
    models.create_model(session, "iris", now_ms=NOW)


@pytest.mark.parametrize("name", ["", "a\0b", "a/b", "..", "x" * 257])
def test_an_endpoint_takes_no_name_that_a_path_could_not_hold(session, name):
    set_alias(session, "champion", 1)
    with pytest.raises(InvalidParameter, match="name"):
        endpoints.rename_endpoint(session, "iris", name, author="me", now_ms=1)


def test_a_reason_is_bounded_and_storable(session):
    set_alias(session, "champion", 1)
    for reason in ("a\0b", "x" * 1_001):
        with pytest.raises(InvalidParameter, match="'reason'"):
            endpoints.change_split(session, "iris", {"champion": 10_000}, author="ann", now_ms=NOW, reason=reason)


CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(ARMS), st.integers(1, 3)),
        st.tuples(st.just("delete"), st.sampled_from(ARMS), st.none()),
        st.tuples(st.just("split"), st.none(), shares_of_arms()),
        st.tuples(st.just("split"), st.none(), shares_of_arms()),
    ),
    min_size=4,
    max_size=8,
)


def call(session, what, arm, given):
    match what:
        case "set":
            set_alias(session, arm, given)
        case "delete" if session.get(AliasRow, ("iris", arm)) is not None:
            delete_alias(session, arm)
        case "split":
            there = {arm for arm in ARMS[1:] if session.get(AliasRow, ("iris", arm)) is not None}
            wanted = {arm: share for arm, share in given.items() if arm in there}
            wanted["champion"] = BUCKETS - sum(wanted.values())
            endpoints.change_split(session, "iris", wanted, author="ann", now_ms=NOW)
            session.flush()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_aliases_and_splits_move_the_fewest_buckets_and_only_from_arms_that_shrink_to_arms_that_grow(session, calls):
    beginning = session.begin_nested()
    set_alias(session, "champion", 1)
    endpoint = endpoints.get_endpoint(session, "iris")
    before = endpoints.get_split(session, endpoint.id)
    for each in calls:
        call(session, *each)
        after = endpoints.get_split(session, endpoint.id)
        grown = {arm: after.shares_bp.get(arm, 0) - before.shares_bp.get(arm, 0) for arm in ARMS}
        moved = [
            (giver, taker)
            for giver, taker in zip(expand(before.owners), expand(after.owners), strict=True)
            if giver != taker
        ]
        assert len(moved) == sum(max(0, by) for by in grown.values())
        assert all(grown[giver] < 0 < grown[taker] for giver, taker in moved)
        before = after
    # A unit's bucket never changed.
    assert endpoints.get_endpoint(session, "iris").salt == endpoint.salt
    beginning.rollback()
    session.expunge_all()


def test_units_are_assigned_anew_on_request_alone_and_the_shares_stay(session):
    set_alias(session, "champion", 1)
    set_alias(session, "challenger", 2)
    before = endpoints.get_endpoint(session, "iris")
    shares = {"champion": 8_000, "challenger": 2_000}
    split = endpoints.change_split(session, "iris", shares, author="ann", now_ms=NOW)
    anew = endpoints.change_split(session, "iris", shares, author="ann", now_ms=NOW, reshuffle=True)
    after = endpoints.get_endpoint(session, "iris")
    assert (after.id, after.salt != before.salt) == (before.id, True)
    assert (anew.owners, anew.period) == (split.owners, split.period + 1)
