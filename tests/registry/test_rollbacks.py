"""The way back: one epoch, to the champion before, while it is warm everywhere; and never forward again by itself."""

import pytest

from registry import aliases, endpoints, epochs, models, rollbacks, serving, versions
from registry.endpoints import EndpointNotFound
from registry.entities import SlotStatus
from registry.sources import Claim, SourcePolicy
from tracking.access.caller import PROGRAM, Caller, set_caller
from tracking.access.grants import NOTHING, Names, Scope

NOW = 1_700_000_000_000
SOURCE = "s3://shared-models/wine"
POLICY = SourcePolicy(locate=lambda _: None, prefixes=("s3://shared-models",))


@pytest.fixture
def session(database, iris, add_version):
    for _ in range(3):
        add_version()
    with database.writing() as session:
        yield session


def set_alias(session, alias, version):
    aliases.set_alias(session, "iris", alias, version, author="ann", now_ms=NOW)


def hold_ready(session, *versions, replica="a"):
    slots = [SlotStatus(model="iris", version=version, state="READY") for version in versions]
    serving.heartbeat(session, replica, slots=slots, epoch=0, now_ms=NOW, lease_ms=5_000)
    session.flush()


def commit(session, now_ms=NOW):
    return epochs.commit_epoch(session, now_ms=now_ms, lead_ms=200)


def roll_back(session, **more):
    return rollbacks.roll_back(session, "iris", author="bob", now_ms=NOW, lead_ms=200, **more)


def champion(session):
    (route,) = serving.newest_table(session).routes
    return route.arms["champion"]


@pytest.fixture
def promoted(session):
    """Version 2 has taken over from version 1, which is warm."""
    hold_ready(session, 1, 2, 3)
    set_alias(session, "champion", 1)
    commit(session)
    set_alias(session, "champion", 2)
    commit(session)
    return session


def test_one_epoch_goes_back_to_the_champion_before_and_the_alias_with_it(promoted):
    epoch = serving.newest_table(promoted).epoch
    taken = roll_back(promoted)
    assert (taken.version, taken.left, taken.epoch) == (1, 2, epoch + 1)
    table = serving.newest_table(promoted)
    assert (table.epoch, table.activate_at_ms, champion(promoted)) == (epoch + 1, NOW + 200, 1)
    assert aliases.get_version_by_alias(promoted, "iris", "champion").version == 1
    # Nothing is left that would flip it forward again.
    assert commit(promoted) is None


def test_who_may_see_one_model_takes_no_other_out_of_service(promoted):
    models.create_model(promoted, "wine", now_ms=NOW)
    versions.create_version(promoted, "wine", Claim(source=SOURCE), policy=POLICY, now_ms=NOW)
    slots = [SlotStatus(model=model, version=number, state="READY") for model, number in [("iris", 1), ("iris", 2),
             ("wine", 1)]]  # fmt: skip
    serving.heartbeat(promoted, "a", slots=slots, epoch=0, now_ms=NOW, lease_ms=5_000)
    aliases.set_alias(promoted, "wine", "champion", 1, author="ann", now_ms=NOW)
    commit(promoted)
    of_iris = Scope(Names(exact=frozenset({"iris"})), Names())
    for reading in (of_iris, NOTHING):
        set_alias(promoted, "champion", 2)
        commit(promoted)
        set_caller(promoted, Caller("bob", acting=of_iris, reading=reading))
        assert roll_back(promoted).version == 1
        assert [route.name for route in serving.newest_table(promoted).routes] == ["iris", "wine"]
        with pytest.raises(EndpointNotFound):
            rollbacks.roll_back(promoted, "wine", author="bob", now_ms=NOW, lead_ms=200)
        set_caller(promoted, PROGRAM)


def test_it_is_recorded_with_its_author_as_the_beginning_of_a_period(promoted):
    before = endpoints.get_split(promoted, endpoints.get_endpoint(promoted, "iris").id)
    roll_back(promoted)
    after = endpoints.get_split(promoted, before.endpoint_id)
    assert (after.period, after.shares_bp) == (before.period + 1, before.shares_bp)
    assert (after.author, after.reason) == ("bob", "rolled back from version 2 to version 1")


def test_sent_twice_it_does_not_undo_itself(promoted):
    roll_back(promoted)
    with pytest.raises(rollbacks.NothingToGoBackTo, match="titlebout promote iris champion VERSION"):
        roll_back(promoted)
    assert champion(promoted) == 1


def test_of_two_who_go_back_at_once_one_is_told_that_the_champion_has_moved(promoted):
    roll_back(promoted, expected_version=2)
    with pytest.raises(rollbacks.ChampionMoved, match="version 1 and not 2"):
        roll_back(promoted, expected_version=2)


def test_a_first_champion_has_nothing_to_go_back_to(session):
    hold_ready(session, 1)
    set_alias(session, "champion", 1)
    with pytest.raises(rollbacks.NothingServed):
        roll_back(session)
    commit(session)
    with pytest.raises(rollbacks.NothingToGoBackTo, match="no champion before version 1"):
        roll_back(session)
    with pytest.raises(EndpointNotFound):
        rollbacks.roll_back(session, "none", author="bob", now_ms=NOW, lead_ms=200)


def test_a_champion_before_that_is_cold_on_one_replica_is_no_way_back(promoted):
    hold_ready(promoted, 2, replica="b")
    with pytest.raises(rollbacks.FormerChampionNotWarm, match="titlebout promote iris champion 1"):
        roll_back(promoted)
    assert champion(promoted) == 2
    assert aliases.get_version_by_alias(promoted, "iris", "champion").version == 2


def test_a_promotion_that_is_not_in_force_yet_is_what_is_taken_back(promoted):
    hold_ready(promoted, 1, 2)
    set_alias(promoted, "champion", 3)
    assert commit(promoted) is None
    taken = roll_back(promoted)
    assert (taken.version, taken.left, champion(promoted)) == (2, 3, 2)
    # The champion before that is still there to go back to.
    assert roll_back(promoted).version == 1


def test_a_stopped_endpoint_has_nothing_to_go_back_from(promoted):
    endpoints.stop_endpoint(promoted, "iris", author="me", now_ms=1)
    with pytest.raises(rollbacks.NothingServed):
        roll_back(promoted)


def test_after_the_champion_alias_was_deleted_it_goes_back_from_what_serves(promoted):
    aliases.delete_alias(promoted, "iris", "champion", author="ann", now_ms=NOW)
    assert roll_back(promoted).left == 2
    assert champion(promoted) == 1


def test_an_arm_of_the_version_that_is_gone_back_to_gives_its_share_to_the_champion(promoted):
    set_alias(promoted, "challenger", 1)
    endpoints.change_split(promoted, "iris", {"champion": 8_000, "challenger": 2_000}, author="ann", now_ms=NOW)
    roll_back(promoted)
    split = endpoints.get_split(promoted, endpoints.get_endpoint(promoted, "iris").id)
    assert split.shares_bp == {"champion": 10_000, "challenger": 0}


def test_a_renamed_model_goes_back_once_it_is_warm_under_its_new_name(promoted):
    models.rename_model(promoted, "iris", "flower", author="me", now_ms=NOW)
    promoted.flush()
    with pytest.raises(rollbacks.FormerChampionNotWarm):
        roll_back(promoted)
