"""Gates: what they keep out, for whom they open, and that no sequence of calls gets round them."""

import math
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import aliases, approvals, endpoints, epochs, gates, history, models, rollbacks, serving, versions
from registry.entities import ApprovalNeeded, Gate, MetricNeeded, SlotStatus
from registry.errors import GateNotFound, GatesNotMet
from registry.gates import Override
from registry.reach import reach_of
from registry.sources import Claim, SourcePolicy
from tracking import experiments, runs
from tracking.access.caller import Caller, set_caller
from tracking.database import Database
from tracking.entities import Metric
from tracking.errors import InvalidParameter, ServingError

NOW = 1_700_000_000_000
GOOD = 0.9
ACCURATE = Gate(name="accurate", needs=MetricNeeded("accuracy", ">=", GOOD))
REVIEWED = Gate(name="reviewed", needs=ApprovalNeeded())


@pytest.fixture
def add_version(database, policy):
    """Registers a version by *author*, of a run with this accuracy."""

    def add(name="iris", *, accuracy=None, author="ann"):
        with database.writing() as session:
            set_caller(session, Caller(author))
            run_id = None
            if accuracy is not None:
                experiments.ensure_default_experiment(session, now_ms=NOW)
                run_id = runs.create_run(session, "0", start_time_ms=NOW).info.run_id
                runs.log_metric(session, run_id, Metric(key="accuracy", value=accuracy, timestamp_ms=NOW, step=0))
            claim = Claim(source="s3://shared-models/iris", run_id=run_id)
            return versions.create_version(session, name, claim, policy=policy, now_ms=NOW).version

    return add


@pytest.fixture
def session(database, iris):
    with database.writing() as session:
        yield session


def set_gate(session, gate, model="iris"):
    gates.set_gate(session, model, gate, author="boss", now_ms=NOW)


def set_alias(session, alias, version, name="iris", **more):
    aliases.set_alias(session, name, alias, version, author="bob", now_ms=NOW, **more)


def split(session, **shares):
    endpoints.change_split(session, "iris", shares, author="bob", now_ms=NOW)


@pytest.mark.parametrize(
    ("accuracy", "why"),
    [
        (0.95, None),
        (0.9, None),
        (0.87, "needs accuracy >= 0.9, and its run has 0.87"),
        (math.nan, "needs accuracy >= 0.9, and its run has nan"),
        (None, "needs accuracy >= 0.9, and version 1 is of no run"),
    ],
)
def test_an_alias_moves_where_the_runs_metric_is_good_enough(database, iris, add_version, accuracy, why):
    add_version(accuracy=accuracy)
    with database.writing() as session:
        set_gate(session, ACCURATE)
        set_gate(session, Gate(name="other", needs=MetricNeeded("loss", "<", 1), aliases=("prod",)))
        set_alias(session, "staging", 1)
        if why is None:
            set_alias(session, "champion", 1)
            return
        with pytest.raises(GatesNotMet) as refused:
            set_alias(session, "champion", 1)
        assert f"gate 'accurate' {why}. Nothing was changed." in refused.value.message
        assert models.get_model(session, "iris").aliases == {"staging": 1}
        with pytest.raises(GatesNotMet, match="gate 'other' needs loss < 1"):
            set_alias(session, "prod", 1)


def test_an_approval_counts_if_it_is_not_its_authors(database, iris, add_version):
    add_version(author="ann")
    with database.writing() as session:
        set_gate(session, Gate(name="reviewed", needs=ApprovalNeeded(2)))
        for author in ("ann", "bob", "bob"):
            approvals.approve(session, "iris", 1, author=author, now_ms=NOW)
        with pytest.raises(GatesNotMet, match=r"needs 2 approval\(s\) by somebody other than ann, and has 1"):
            set_alias(session, "champion", 1)
        approvals.approve(session, "iris", 1, author="cid", now_ms=NOW, reason="looked at it")
        approvals.withdraw(session, "iris", 1, author="bob", now_ms=NOW)
        with pytest.raises(GatesNotMet):
            set_alias(session, "champion", 1)
        approvals.approve(session, "iris", 1, author="bob", now_ms=NOW)
        set_alias(session, "champion", 1)


def test_a_share_passes_a_gates_bound_by_no_way(database, iris, add_version):
    good, bad, other_bad = add_version(accuracy=0.95), add_version(accuracy=0.5), add_version(accuracy=0.4)
    with database.writing() as session:
        set_gate(session, Gate(name="tried", needs=ACCURATE.needs, aliases=(), share_over_bp=1_000))
        with pytest.raises(GatesNotMet):
            set_alias(session, "champion", bad)  # It would have all of it at once.
        set_alias(session, "champion", good)
        set_alias(session, "challenger", bad)
        split(session, champion=9_000, challenger=1_000)
        with pytest.raises(GatesNotMet, match="'challenger'"):
            split(session, champion=8_999, challenger=1_001)
        set_alias(session, "challenger", good)
        split(session, champion=5_000, challenger=5_000)
        for version in (bad, other_bad):
            with pytest.raises(GatesNotMet):
                set_alias(session, "challenger", version)
        # What shrinks may be as bad as it is.
        split(session, champion=6_000, challenger=4_000)


def test_an_override_is_kept_with_its_reason(database, iris, add_version):
    add_version(accuracy=0.5)
    with database.writing() as session:
        set_gate(session, ACCURATE)
        set_alias(session, "champion", 1, override=Override("boss", "the old one leaks", NOW))
        entry = next(e for e in history.list_history(session, "iris").items if e.action == "gates_overridden")
        assert (entry.author, entry.alias, entry.version, entry.reason) == ("boss", "champion", 1, "the old one leaks")
        assert entry.details == {"unmet": {"accurate": "needs accuracy >= 0.9, and its run has 0.5"}}


def test_going_back_to_what_was_served_is_not_gated(database, iris, add_version):
    first, second = add_version(accuracy=0.5), add_version(accuracy=0.95)
    with database.writing() as session:
        slots = [SlotStatus(model="iris", version=version, state="READY") for version in (first, second)]
        serving.heartbeat(session, "a", slots=slots, epoch=0, now_ms=NOW, lease_ms=5_000)
        for version in (first, second):
            set_alias(session, "champion", version)
            epochs.commit_epoch(session, now_ms=NOW, lead_ms=200)
        set_gate(session, ACCURATE)
        rollbacks.roll_back(session, "iris", author="bob", now_ms=NOW, lead_ms=200)
        assert models.get_model(session, "iris").aliases == {"champion": first}
        # It is one way: forward again is gated.
        set_alias(session, "champion", second)
        with pytest.raises(GatesNotMet):
            set_alias(session, "champion", first)


@pytest.mark.parametrize(
    "gate",
    [
        Gate(name=" ", needs=ApprovalNeeded()),
        Gate(name="g", needs=ApprovalNeeded(), aliases=()),
        Gate(name="g", needs=ApprovalNeeded(0)),
        Gate(name="g", needs=ApprovalNeeded(), aliases=("latest",)),
        Gate(name="g", needs=ApprovalNeeded(), share_over_bp=10_000),
        Gate(name="g", needs=MetricNeeded("", ">", 1)),
        Gate(name="g", needs=MetricNeeded("m", ">", math.nan)),
    ],
)
def test_a_gate_that_asks_for_what_cannot_be_is_refused(session, gate):
    with pytest.raises(InvalidParameter):
        set_gate(session, gate)
    assert gates.list_gates(session, "iris") == []


def test_a_gate_is_replaced_by_its_name_and_removed(session):
    set_gate(session, ACCURATE)
    set_gate(session, Gate(name="accurate", needs=ApprovalNeeded()))
    assert [gate.needs for gate in gates.list_gates(session, "iris")] == [ApprovalNeeded()]
    gates.remove_gate(session, "iris", "accurate", author="boss", now_ms=NOW)
    with pytest.raises(GateNotFound):
        gates.remove_gate(session, "iris", "accurate", author="boss", now_ms=NOW)


# --- whatever anybody calls, in whatever order

NAMES = ("a", "b", "c")
ALIASES = ("champion", "challenger")
ALIAS_CALLS = st.tuples(st.just("alias"), st.sampled_from(NAMES), st.sampled_from(ALIASES), st.integers(1, 3))
SPLIT_CALLS = st.tuples(st.just("split"), st.sampled_from(NAMES), st.sampled_from([0, 1_000, 1_001, 10_000]))
OTHER_CALLS = st.one_of(
    st.tuples(st.just("unalias"), st.sampled_from(NAMES), st.sampled_from(ALIASES)),
    st.tuples(st.just("rename"), st.permutations(NAMES).map(lambda names: names[:2])),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("create"), st.sampled_from(NAMES), st.lists(st.booleans(), min_size=1, max_size=3)),
    st.tuples(st.just("stop"), st.sampled_from(NAMES)),
)
# So many in a row, because what gets round a gate takes three or four of them in the right order.
CALLS = st.lists(st.one_of(ALIAS_CALLS, ALIAS_CALLS, SPLIT_CALLS, OTHER_CALLS), min_size=30, max_size=40)


class World:
    """Models of good and bad versions; the name "a" has gates."""

    def __init__(self, session, policy):
        self.session, self._policy = session, policy
        experiments.ensure_default_experiment(session, now_ms=NOW)
        self._runs = {good: self._run(0.95 if good else 0.5) for good in (True, False)}
        for gate in (ACCURATE, Gate(name="tried", needs=ACCURATE.needs, aliases=(), share_over_bp=1_000)):
            set_gate(session, gate, "a")
        for name in ("a", "b"):
            self.do(("create", name, (True, False, True)))
            self.do(("alias", name, "champion", 1))

    def _run(self, accuracy):
        run_id = runs.create_run(self.session, "0", start_time_ms=NOW).info.run_id
        runs.log_metric(self.session, run_id, Metric(key="accuracy", value=accuracy, timestamp_ms=NOW, step=0))
        return run_id

    def do(self, call):
        session, what = self.session, {"author": "eve", "now_ms": NOW}
        match call:
            case "alias", name, alias, version:
                aliases.set_alias(session, name, alias, version, **what)
            case "unalias", name, alias:
                aliases.delete_alias(session, name, alias, **what)
            case "split", name, share:
                endpoints.change_split(session, name, {"champion": 10_000 - share, "challenger": share}, **what)
            case "rename", (old, new):
                models.rename_model(session, old, new, **what)
            case "delete", name:
                models.delete_model(session, name, **what)
            case "create", name, goods:
                models.create_model(session, name, now_ms=NOW)
                for good in goods:
                    claim = Claim(source="s3://shared-models/iris", run_id=self._runs[good])
                    versions.create_version(session, name, claim, policy=self._policy, now_ms=NOW)
            case "stop", name:
                endpoints.stop_endpoint(session, name, **what)

    def bad_behind_gates(self):
        """Aliases and arms that a gate of their model's name should have kept from a bad version."""
        found = []
        for name in NAMES:
            names = {gate.name for gate in gates.list_gates(self.session, name)}
            model = models.find_model(self.session, name)
            for alias, version in (model.aliases if model and names else {}).items():
                run_id = versions.get_version(self.session, name, version).run_id
                is_gated = alias == "champion" or reach_of(self.session, name).most_bp(version) > 1_000
                if is_gated and run_id != self._runs[True]:
                    found.append((name, alias, version))
        return found


@pytest.fixture(scope="module")
def store(migrated_sqlite, tmp_path_factory):
    path = tmp_path_factory.mktemp("gates") / "titlebout.db"
    shutil.copy(migrated_sqlite, path)
    database = Database(f"sqlite:///{path}")
    with database.writing() as session:
        yield session
    database.dispose()


@settings(max_examples=50, deadline=None)
@given(calls=CALLS)
def test_no_sequence_of_calls_gets_a_bad_version_past_a_gate(store, calls):
    everything = store.begin_nested()
    world = World(store, SourcePolicy(locate=lambda _: None, prefixes=("s3://shared-models",)))
    for call in calls:
        savepoint = store.begin_nested()
        try:
            world.do(call)
        except ServingError:
            savepoint.rollback()
        else:
            savepoint.commit()
        assert world.bad_behind_gates() == [], call
    everything.rollback()
    store.expunge_all()
