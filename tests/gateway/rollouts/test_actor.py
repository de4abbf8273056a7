"""Rollouts are carried on by one of several replicas, whoever dies, and come to the end that is right."""

import asyncio
import contextlib
import shutil
import uuid
from collections import deque

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from gateway.comparison import kept_sums
from gateway.comparison.latency_counts import counts_of
from gateway.comparison.sums import CLASSES, CLUSTERS, SERVING, ClusterSums, Column
from gateway.rollouts.actor import LEASE_MS, RolloutActor
from gateway.rollouts.judging import LOAD_LONGEST_S
from registry import aliases, endpoints, epochs, gates, history, models, rollouts, serving, versions
from registry.entities import ApprovalNeeded, Cell, Gate, SlotStatus
from registry.rollout_entities import RolloutSpec, RolloutState
from registry.rollouts import Act
from registry.schema import RolloutRow
from registry.sources import Claim, SourcePolicy
from registry.tallies import Kind
from tracking.database import Database
from tracking.errors import ServingError

NOW = 1_700_000_000_000
SPEC = RolloutSpec(
    steps_bp=(1_000, 5_000, 10_000), every_s=2.0, watch_s=8.0, requests_min=50, guards=("failures", "p99=1.2x")
)
POLICY = SourcePolicy(locate=lambda _: None, prefixes=("s3://shared-models",))
ENDS = {"rollout_stopped", "rollout_aborted", "rollout_rolled_back", "rollout_ended"}


class World:
    """An endpoint with traffic, a clock, and replicas that look at it; what they are isn't known to the actors."""

    def __init__(self, database, *, warm_s=600):
        self.database, self.model, self.now_ms = database, f"iris-{uuid.uuid4().hex[:8]}", NOW
        self.warm_s = warm_s
        self.between = lambda: None
        self.unlabelled = deque()
        self.actors = {name: self._actor(name) for name in "ab"}
        with database.writing() as session:
            models.create_model(session, self.model, now_ms=NOW)
            for _ in range(2):
                versions.create_version(
                    session, self.model, Claim(source="s3://shared-models/iris"), policy=POLICY, now_ms=NOW
                )
            aliases.set_alias(session, self.model, "champion", 1, author="ann", now_ms=NOW)
        self.serve()
        self.endpoint_id = self._read(lambda session: endpoints.get_endpoint(session, self.model).id)

    def _actor(self, name):
        return RolloutActor(
            self.database,
            name=name,
            lead_ms=0,
            warm_s=self.warm_s,
            now_ms=lambda _: self.now_ms,
            looked=lambda _: self.between(),
        )

    def _read(self, question):
        with self.database.reading() as session:
            return question(session)

    def serve(self, *, held=(1, 2)):
        """What the reconciler does: those *held* are in memory, and the next table is committed."""
        slots = [SlotStatus(model=self.model, version=version, state="READY") for version in held]
        with self.database.writing() as session:
            serving.heartbeat(session, "r", slots=slots, epoch=0, now_ms=self.now_ms, lease_ms=10**9)
            session.flush()
            epochs.commit_epoch(session, now_ms=self.now_ms, lead_ms=0)

    def answer(self, requests=1_000, failure_rate=0.0, times=1.0):
        """So many requests, spread as the split says; those to version 2 fail at this rate and take so much longer."""
        rng = np.random.default_rng(self.now_ms % 2**32)
        split = self._read(lambda session: endpoints.get_split(session, self.endpoint_id))
        meant = self._read(lambda session: models.get_model(session, self.model).aliases)
        counted, latency = {}, {}
        for arm, share in split.shares_bp.items():
            asked = requests * share // 10_000
            if asked:
                is_new = meant[arm] == 2
                cell, sums = Cell(split.period, arm, meant[arm]), ClusterSums(SERVING)
                place = rng.integers(CLUSTERS, size=asked)
                failed = rng.random(asked) < (failure_rate if is_new else 0.0)
                sums.add_many(place, {Column.REQUESTS: np.ones(asked), Column.UNITLESS: np.ones(asked)})
                sums.add_many(place, {Column.FAILURES: failed.astype(float)})
                counted[cell] = sums
                seconds = 0.01 * np.exp(0.3 * rng.standard_normal(asked)) * (times if is_new else 1.0)
                latency[cell] = counts_of(seconds)
        with self.database.writing() as session:
            kept_sums.add(session, self.endpoint_id, Kind.SERVING, counted)
            kept_sums.add(session, self.endpoint_id, Kind.LATENCY, latency)

    def label(self, accuracy, requests=6_000, late_looks=3):
        """Say of as many answers how they should have been, *late_looks* after they were given."""
        rng = np.random.default_rng(self.now_ms % 2**32)
        split = self._read(lambda session: endpoints.get_split(session, self.endpoint_id))
        labels = {}
        for arm, version in self._read(lambda session: models.get_model(session, self.model).aliases).items():
            asked = requests * split.shares_bp.get(arm, 0) // 10_000
            sums, place = ClusterSums(CLASSES), rng.integers(CLUSTERS, size=asked)
            right = (rng.random(asked) < accuracy[version]).astype(float)
            sums.add_many(place, {Column.LABELS: np.ones(asked), Column.CORRECT: right})
            labels[Cell(split.period, arm, version)] = sums
        self.unlabelled.append(labels)
        if len(self.unlabelled) > late_looks:
            with self.database.writing() as session:
                kept_sums.add(session, self.endpoint_id, Kind.CLASSES, self.unlabelled.popleft())

    def start(self, spec=SPEC):
        with self.database.writing() as session:
            rollouts.start(session, self.model, 2, spec, self.act())

    def act(self):
        return Act(author="bob", now_ms=self.now_ms)

    def ask(self, verb):
        with self.database.writing() as session:
            match verb:
                case "abort":
                    rollouts.abort(session, self.model, self.act(), lead_ms=0)
                case _:
                    getattr(rollouts, verb)(session, self.model, self.act())

    def look(self, name="a"):
        self.actors[name].look()

    def pass_second(self, **served):
        self.now_ms += 1_000
        self.serve(**served)
        self.look()

    @property
    def rollout(self):
        return self._read(lambda session: rollouts.newest(session, self.model))

    @property
    def champion(self):
        return self._read(lambda session: models.get_model(session, self.model).aliases["champion"])

    @property
    def shares(self):
        return self._read(lambda session: endpoints.get_split(session, self.endpoint_id)).shares_bp

    @property
    def told(self):
        entries = self._read(lambda session: history.list_history(session, self.model, max_results=1_000).items)
        return [entry for entry in reversed(entries) if entry.action.startswith("rollout_")]

    def until_it_ends(self, **answered):
        for _ in range(100):
            if self.rollout.ended_ms is not None:
                return self.rollout.state
            self.now_ms += 1_000
            self.answer(**answered)
            self.serve()
            self.look()
        raise AssertionError(self.rollout)


@pytest.fixture
def world(migrated_sqlite, tmp_path):
    shutil.copy(migrated_sqlite, tmp_path / "titlebout.db")
    database = Database(f"sqlite:///{tmp_path}/titlebout.db")
    yield World(database)
    database.dispose()


def test_a_good_version_becomes_champion_step_by_step(world):
    world.start()
    assert world.until_it_ends() is RolloutState.SUCCEEDED
    assert world.champion == 2
    assert [entry.details.get("share_bp") for entry in world.told if entry.action == "rollout_stepped"] == [
        1_000, 5_000, 10_000,
    ]  # fmt: skip
    assert "requests failed" in world.told[2].reason
    assert world.told[-1].details["bad"] == {"failures": 0.0, "p99=1.2x": pytest.approx(0, abs=500)}


@pytest.mark.parametrize(
    ("bad", "why"), [({"failure_rate": 0.05}, "failures"), ({"times": 2.0}, "p99=1.2x")], ids=["failures", "latency"]
)
def test_a_bad_version_is_put_back_with_no_human(world, bad, why):
    world.start()
    assert world.until_it_ends(**bad) is RolloutState.STOPPED
    assert (world.champion, world.rollout.step) == (1, 1)
    assert why in world.rollout.reason
    assert world.told[-1].details["findings"]
    assert world.told[-1].author == "titlebout"


@pytest.mark.parametrize(
    ("accuracy", "ends"),
    [
        pytest.param({1: 0.98, 2: 0.96}, RolloutState.STOPPED, id="two points less"),
        pytest.param({1: 0.98, 2: 0.98}, RolloutState.SUCCEEDED, id="the same"),
    ],
)
def test_a_less_accurate_version_is_put_back_though_its_labels_come_late(world, accuracy, ends):
    world.start(msgspec.structs.replace(SPEC, metric="accuracy", every_s=10.0, watch_s=2.0))
    while world.rollout.ended_ms is None:
        world.now_ms += 1_000
        world.answer()
        world.label(accuracy)
        world.serve()
        world.look()
    assert world.rollout.state is ends, world.rollout.reason
    assert world.champion == (2 if ends is RolloutState.SUCCEEDED else 1)
    assert ends is RolloutState.SUCCEEDED or "accuracy" in world.rollout.reason


@pytest.mark.parametrize("bad", [{"failure_rate": 0.05}, {"times": 3.0}], ids=["failures", "latency"])
def test_a_champion_that_turns_bad_gives_way_to_the_one_before(world, bad):
    world.start()
    while world.rollout.state is not RolloutState.WATCHING:
        world.now_ms += 1_000
        world.answer()
        world.serve()
        world.look()
    assert world.until_it_ends(**bad) is RolloutState.ROLLED_BACK
    assert world.champion == 1


def test_a_champion_is_watched_from_when_it_answers_and_gone_back_from_if_it_never_does(world):
    world.start()
    world.ask("promote")
    for _ in range(20):
        world.pass_second(held=(1,))
    waiting = world.rollout
    assert (waiting.state, waiting.served_ms) == (RolloutState.WATCHING, None)
    assert "waiting for the version to be in memory" in waiting.reason
    world.pass_second()
    assert world.rollout.watch.began_ms == world.now_ms
    assert world.until_it_ends() is RolloutState.SUCCEEDED

    world.now_ms += 1_000
    with world.database.writing() as session:
        rollouts.start(session, world.model, 1, SPEC, world.act())
    world.serve(held=(2,))
    world.ask("promote")
    world.now_ms += int(LOAD_LONGEST_S * 1000) + 1
    world.pass_second(held=(2,))
    assert world.rollout.state is RolloutState.ROLLED_BACK
    assert "900 s were too short" in world.rollout.reason
    assert world.champion == 2


def test_the_champion_before_stays_in_memory_while_the_new_one_is_watched(world):
    world = World(world.database, warm_s=4)
    world.start(RolloutSpec(steps_bp=(10_000,), watch_s=20.0))
    while world.rollout.state is not RolloutState.WATCHING:
        world.pass_second()
    while world.rollout.ended_ms is None:
        world.pass_second()
        endpoint = world._read(lambda session: endpoints.get_endpoint(session, world.model))
        assert endpoint.former_champion == 1
        assert world.now_ms - endpoint.former_since_ms <= 3_000


def test_a_fault_in_one_look_is_not_the_last(world, monkeypatch, caplog):
    monkeypatch.setattr("gateway.rollouts.actor._INTERVAL_S", 0.01)
    world.start()
    with world.database.writing() as session:
        session.execute(update(RolloutRow).values(state="of a later release"))

    async def until_it_looked_twice():
        acting = asyncio.create_task(world.actors["a"].run())
        async with asyncio.timeout(60):
            while [each.message for each in caplog.records].count("rollout_look_failed") < 2:  # noqa: ASYNC110  (a log)
                await asyncio.sleep(0.01)
        acting.cancel()

    asyncio.run(until_it_looked_twice())


def test_a_paused_one_is_put_back_if_it_is_bad_and_moves_for_nothing_else(world):
    world.start()
    while world.rollout.served_ms is None or world.rollout.step < 1:
        world.now_ms += 1_000
        world.serve()
        world.look()
    world.ask("pause")
    for _ in range(6):
        world.now_ms += 1_000
        world.answer()
        world.look()
    assert (world.rollout.state, world.rollout.step) == (RolloutState.PAUSED, 1)
    assert world.until_it_ends(failure_rate=0.05) is RolloutState.STOPPED


def test_a_gate_that_is_not_met_waits_for_a_person_in_its_own_words(world):
    reviewed = Gate(name="reviewed", needs=ApprovalNeeded(), aliases=("champion",))
    world.start()
    with world.database.writing() as session:
        gates.set_gate(session, world.model, reviewed, author="boss", now_ms=NOW)
    for _ in range(12):
        world.now_ms += 1_000
        world.answer()
        world.serve()
        world.look()
    assert (world.rollout.state, world.rollout.step) == (RolloutState.WAITING, 2)
    assert "gate 'reviewed' needs 1 approval" in world.rollout.reason
    with pytest.raises(ServingError, match="reviewed"):
        world.ask("resume")
    with world.database.writing() as session:
        gates.remove_gate(session, world.model, "reviewed", author="boss", now_ms=NOW)
    world.ask("resume")
    assert world.until_it_ends() is RolloutState.SUCCEEDED


def test_another_replica_goes_on_once_the_lease_of_one_that_died_has_run_out(world):
    world.start()
    world.serve()
    world.look("a")
    actors = [world.rollout.actor]
    for _ in range(LEASE_MS // 1_000 + 1):
        world.now_ms += 1_000
        world.look("b")
        actors.append(world.rollout.actor)
    assert actors[:2] == ["a", "a"]
    assert actors[-1] == "b"


CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.sampled_from("ab"), st.none() | st.sampled_from(["a", "b", "dies"])),
        st.tuples(st.just("look"), st.sampled_from("ab"), st.none()),
        st.tuples(st.just("ask"), st.sampled_from(["pause", "resume", "resume", "promote", "abort"]), st.none()),
        st.tuples(st.just("time"), st.sampled_from([500, 1_000, 6_000]), st.sampled_from([0.0, 0.0, 0.0, 0.05])),
    ),
    min_size=20,
    max_size=40,
)


def run(world, calls):
    """Whatever happens: no step is left out or taken twice, shares are the step's, there is one end, and it comes."""
    world.start()
    for what, who, more in calls:
        match what:
            case "look":
                meddle(world, more)
                with contextlib.suppress(Dies):
                    world.look(who)
                world.between = lambda: None
            case "ask":
                with contextlib.suppress(ServingError):
                    world.ask(who)
            case _:
                world.now_ms += who
                world.answer(failure_rate=more)
                world.serve()
        check(world)
    for _ in range(40):
        if world.rollout.state in {RolloutState.PAUSED, RolloutState.WAITING}:
            world.ask("resume")
        if world.rollout.ended_ms is not None:
            break
        world.now_ms += 3_000
        world.answer()
        world.serve()
        world.look()
        check(world)
    ended = world.rollout
    assert ended.ended_ms is not None
    assert world.champion == (2 if ended.state is RolloutState.SUCCEEDED else 1)
    before = len(world.told)
    world.look("a")
    world.look("b")
    assert len(world.told) == before


class Dies(Exception):
    pass


def meddle(world, more):
    """Between what a replica reads and what it does: another one's look, or its own end."""

    def between():
        world.between = lambda: None
        if more == "dies":
            raise Dies
        world.look(more)

    if more is not None:
        world.between = between


def check(world):
    rollout, told = world.rollout, world.told
    steps = [entry.details["step"] for entry in told if entry.action == "rollout_stepped"]
    assert steps == list(range(1, len(steps) + 1))
    ends = [entry.action for entry in told if entry.action in ENDS]
    is_promoted_early = rollout.state is RolloutState.SUCCEEDED and not ends
    assert len(ends) == (rollout.ended_ms is not None) or is_promoted_early
    if rollout.ended_ms is None:
        share = 0 if rollout.state is RolloutState.WATCHING else rollout.share_bp
        assert world.shares == {"champion": 10_000 - share, "challenger": share}
        assert world.champion == (2 if rollout.state is RolloutState.WATCHING else 1)


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(calls=CALLS)
def test_no_interleaving_skips_a_step_or_acts_twice_and_each_ends(world, calls):
    run(World(world.database), calls)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_no_interleaving_of_many_does(database, calls):
    run(World(database), calls)


# Fewer, as what is drawn is decided by functions that know no database: these are for the statements that it comes to.
@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_none_does_on_postgresql_either(database, calls):
    run(World(database), calls)
