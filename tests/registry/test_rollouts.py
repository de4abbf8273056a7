"""Rollouts: each goes on in one transaction, by one actor, and comes to an end that leaves the endpoint as it says."""

import pytest

from registry import aliases, endpoints, epochs, gates, history, models, rollouts, serving, versions
from registry.entities import ApprovalNeeded, Gate, SlotStatus
from registry.errors import GatesNotMet, ModelVersionNotFound
from registry.gates import Override
from registry.rollout_entities import RolloutSpec, RolloutState, StepsWrong
from registry.rollouts import Act, NoRolloutRunning, NotForThat, NothingToRollOut, OtherArmsServe, RolloutMoved
from registry.running_rollouts import RolloutRunning
from tracking.errors import InvalidParameter

NOW = 1_700_000_000_000
SPEC = RolloutSpec(steps_bp=(100, 2_500, 10_000))
BOB = Act(author="bob", now_ms=NOW)
PROGRAM = Act(author="titlebout", now_ms=NOW, reason="nothing bad was found", evidence={"requests": 100.0})


@pytest.fixture
def session(database, iris, add_version):
    """Version 1 is champion; 2 and 3 are there, and everything is in memory."""
    for _ in range(3):
        add_version()
    with database.writing() as session:
        hold_ready(session, 1, 2, 3)
        set_alias(session, "champion", 1)
        commit(session)
        yield session


def hold_ready(session, *held):
    slots = [SlotStatus(model="iris", version=version, state="READY") for version in held]
    serving.heartbeat(session, "a", slots=slots, epoch=0, now_ms=NOW, lease_ms=5_000)
    session.flush()


def set_alias(session, alias, version):
    aliases.set_alias(session, "iris", alias, version, author="ann", now_ms=NOW)


def commit(session):
    return epochs.commit_epoch(session, now_ms=NOW, lead_ms=200)


def start(session, version=2, spec=SPEC, **more):
    return rollouts.start(session, "iris", version, spec, BOB, **more)


def now(session):
    return rollouts.newest(session, "iris")


def advance(session):
    return rollouts.advance(session, now(session), PROGRAM)


def shares(session):
    return endpoints.get_split(session, endpoints.get_endpoint(session, "iris").id).shares_bp


def meanings(session):
    return models.get_model(session, "iris").aliases


def told(session):
    return [entry.action for entry in reversed(history.list_history(session, "iris").items)]


def test_a_good_one_goes_step_by_step_and_ends_in_one_epoch(session):
    rollout = start(session)
    assert (rollout.state, rollout.step, rollout.share_bp) == (RolloutState.RUNNING, 0, 0)
    assert meanings(session) == {"champion": 1, "challenger": 2}
    assert shares(session) == {"champion": 10_000, "challenger": 0}
    first = advance(session)
    assert shares(session) == {"champion": 9_900, "challenger": 100}
    second = advance(session)
    assert shares(session) == {"champion": 7_500, "challenger": 2_500}
    assert (second.first_period, second.period) == (first.period, first.period + 1)
    commit(session)
    before = serving.newest_table(session).epoch
    watching = advance(session)
    assert watching.state is RolloutState.WATCHING
    assert meanings(session) == {"champion": 2, "challenger": 2}
    assert shares(session) == {"champion": 10_000, "challenger": 0}
    table = commit(session)
    assert table.epoch == before + 1
    assert table.routes[0].arms == {"champion": 2, "challenger": 2}
    assert table.routes[0].owners == (("champion", 10_000),)
    assert commit(session) is None
    assert endpoints.get_endpoint(session, "iris").former_champion == 1
    ended = rollouts.finish(session, now(session), PROGRAM)
    assert (ended.state, ended.ended_ms) == (RolloutState.SUCCEEDED, NOW)
    set_alias(session, "challenger", 3)
    assert [action for action in told(session) if "rollout" in action] == [
        "rollout_started", "rollout_stepped", "rollout_stepped", "rollout_stepped", "rollout_ended",
    ]  # fmt: skip


def test_without_a_watch_the_promotion_is_the_end(session):
    start(session, spec=RolloutSpec(steps_bp=(10_000,), watch_s=0.0))
    assert advance(session).state is RolloutState.SUCCEEDED
    assert meanings(session)["champion"] == 2


@pytest.mark.parametrize("challenger", [None, 2, 3])
@pytest.mark.parametrize("how", ["stop", "abort"])
def test_a_bad_one_leaves_the_split_and_the_challenger_as_they_were(session, challenger, how):
    if challenger is not None:
        set_alias(session, "challenger", challenger)
        endpoints.change_split(session, "iris", {"champion": 8_000, "challenger": 2_000}, author="ann", now_ms=NOW)
        commit(session)
    before = (meanings(session), {arm: share for arm, share in shares(session).items() if share})
    start(session)
    advance(session)
    commit(session)
    if how == "stop":
        ended = rollouts.stop(session, now(session), PROGRAM)
        assert ended.state is RolloutState.STOPPED
    else:
        assert rollouts.abort(session, "iris", BOB, lead_ms=200).state is RolloutState.ABORTED
    assert (meanings(session), {arm: share for arm, share in shares(session).items() if share}) == before
    start(session)


@pytest.mark.parametrize("is_warm", [True, False])
@pytest.mark.parametrize("how", ["roll_back", "abort"])
def test_a_bad_champion_gives_way_to_the_one_before_warm_or_not(session, is_warm, how):
    set_alias(session, "challenger", 3)
    endpoints.change_split(session, "iris", {"champion": 8_000, "challenger": 2_000}, author="ann", now_ms=NOW)
    start(session)
    for _ in range(3):
        advance(session)
        commit(session)
    hold_ready(session, *([1, 2, 3] if is_warm else [2, 3]))
    if how == "roll_back":
        ended = rollouts.roll_back(session, now(session), PROGRAM, lead_ms=200)
        assert ended.state is RolloutState.ROLLED_BACK
    else:
        rollouts.abort(session, "iris", BOB, lead_ms=200)
    assert meanings(session) == {"champion": 1, "challenger": 3}
    assert shares(session) == {"champion": 8_000, "challenger": 2_000}
    served = serving.newest_table(session).routes[0].arms["champion"]
    assert served == (1 if is_warm else 2)


def test_while_one_runs_nobody_else_changes_what_answers(session):
    start(session)
    set_alias(session, "spare", 3)
    for change in (
        lambda: set_alias(session, "champion", 3),
        lambda: endpoints.join_dark(session, "iris", "spare", author="ann", now_ms=NOW),
        lambda: set_alias(session, "challenger", 3),
        lambda: aliases.delete_alias(session, "iris", "challenger", author="ann", now_ms=NOW),
        lambda: endpoints.change_split(session, "iris", {"champion": 10_000}, author="ann", now_ms=NOW),
        lambda: endpoints.stop_endpoint(session, "iris", author="ann", now_ms=NOW),
        lambda: endpoints.rename_endpoint(session, "iris", "other", author="ann", now_ms=NOW),
        lambda: models.rename_model(session, "iris", "other", author="ann", now_ms=NOW),
        lambda: start(session, 3),
    ):
        tried = session.begin_nested()
        with pytest.raises(RolloutRunning, match="version 2 of 'iris' is running on endpoint 'iris'"):
            change()
        tried.rollback()
    set_alias(session, "staging", 3)
    versions.delete_version(session, "iris", 3, author="ann", now_ms=NOW)


def test_what_a_rollout_would_go_back_to_is_not_deleted(session):
    start(session)
    for _ in range(3):
        advance(session)
        commit(session)
    tried = session.begin_nested()
    with pytest.raises(RolloutRunning, match="abort iris"):
        versions.delete_version(session, "iris", 1, author="ann", now_ms=NOW)
    tried.rollback()
    rollouts.finish(session, now(session), PROGRAM)
    versions.delete_version(session, "iris", 1, author="ann", now_ms=NOW)


def test_a_model_is_not_deleted_under_a_rollout_of_what_never_served(database, iris, add_version):
    for _ in range(2):
        add_version()
    with database.writing() as session:
        set_alias(session, "champion", 1)
        start(session)
        with pytest.raises(RolloutRunning):
            models.delete_model(session, "iris", author="ann", now_ms=NOW)


@pytest.mark.parametrize(
    ("version", "spec", "error"),
    [
        pytest.param(9, SPEC, ModelVersionNotFound, id="a version that isn't registered"),
        pytest.param(1, SPEC, NothingToRollOut, id="the champion"),
        pytest.param(2, RolloutSpec(steps_bp=()), StepsWrong, id="no steps"),
        pytest.param(2, RolloutSpec(steps_bp=(100, 100, 10_000)), StepsWrong, id="steps that don't rise"),
        pytest.param(2, RolloutSpec(steps_bp=(100, 5_000)), StepsWrong, id="steps that don't end with all"),
        pytest.param(2, RolloutSpec(steps_bp=(0, 10_000)), StepsWrong, id="a step of nothing"),
        pytest.param(2, RolloutSpec(steps_bp=(10_000,), every_s=float("nan")), InvalidParameter, id="no time"),
        pytest.param(2, RolloutSpec(steps_bp=(10_000,), budget=0.0), InvalidParameter, id="no budget"),
    ],
)
def test_what_cannot_be_rolled_out_changes_nothing(session, version, spec, error):
    before = told(session)
    with pytest.raises(error):
        start(session, version, spec)
    assert told(session) == before


def test_other_arms_with_traffic_are_in_the_way(session):
    set_alias(session, "canary", 3)
    endpoints.change_split(session, "iris", {"champion": 9_000, "canary": 1_000}, author="ann", now_ms=NOW)
    with pytest.raises(OtherArmsServe, match="canary"):
        start(session)


def test_who_acts_on_what_is_not_so_any_more_does_nothing(session):
    seen = start(session)
    advance(session)
    before = (shares(session), told(session))
    for act in (rollouts.advance, rollouts.wait, rollouts.stop, rollouts.finish):
        with pytest.raises(RolloutMoved):
            act(session, seen, PROGRAM)
    with pytest.raises(RolloutMoved):
        rollouts.roll_back(session, now(session), PROGRAM, lead_ms=200)
    assert (shares(session), told(session)) == before


def test_one_lease_at_a_time_and_another_once_it_has_run_out(session):
    seen = start(session)
    claims = [
        rollouts.claim(session, seen, actor, now_ms=NOW + at_ms, lease_ms=5_000)
        for actor, at_ms in (("a", 0), ("b", 1), ("a", 2_000), ("b", 6_000), ("b", 7_001), ("a", 7_002))
    ]
    assert claims == [True, False, True, False, True, False]
    rollouts.abort(session, "iris", BOB, lead_ms=200)
    assert not rollouts.claim(session, seen, "b", now_ms=NOW + 8_000, lease_ms=5_000)


def test_people_pause_resume_and_promote(session):
    start(session)
    advance(session)
    rollouts.note(session, now(session), now_ms=NOW, served_ms=NOW)
    assert rollouts.pause(session, "iris", BOB).reason == "paused by bob"
    with pytest.raises(NotForThat, match="is paused, so it can't be paused"):
        rollouts.pause(session, "iris", BOB)
    resumed = rollouts.resume(session, "iris", BOB)
    assert (resumed.state, resumed.step, resumed.served_ms) == (RolloutState.RUNNING, 1, None)
    rollouts.note(session, now(session), now_ms=NOW, served_ms=NOW)
    rollouts.wait(session, now(session), PROGRAM)
    # A person's word is what it waited for.
    assert rollouts.resume(session, "iris", BOB).step == 2
    assert rollouts.promote(session, "iris", BOB).state is RolloutState.WATCHING
    with pytest.raises(NotForThat):
        rollouts.pause(session, "iris", BOB)
    assert rollouts.promote(session, "iris", BOB).state is RolloutState.SUCCEEDED
    for asked in (rollouts.pause, rollouts.resume, rollouts.promote):
        with pytest.raises(NoRolloutRunning):
            asked(session, "iris", BOB)
    assert meanings(session)["champion"] == 2


def test_gates_hold_for_the_first_step_for_each_and_for_the_end(session):
    def gate(**of):
        needs = Gate(name="reviewed", needs=ApprovalNeeded(), **of)
        gates.set_gate(session, "iris", needs, author="boss", now_ms=NOW)

    gate(aliases=(), share_over_bp=50)
    tried = session.begin_nested()
    with pytest.raises(GatesNotMet, match="reviewed"):
        start(session)
    tried.rollback()
    gate(aliases=(), share_over_bp=1_000)
    start(session)
    advance(session)
    with pytest.raises(GatesNotMet):
        advance(session)
    rollouts.abort(session, "iris", BOB, lead_ms=200)
    gate(aliases=("champion",))
    start(session, override=Override("bob", "the old one leaks", NOW))
    for _ in range(3):
        advance(session)
    assert meanings(session)["champion"] == 2
    assert "gates_overridden" in told(session)
