"""Gates: what they keep out, for whom they open, and that none of the ways that lead round is one."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select, text

from registry import (
    aliases,
    approvals,
    endpoints,
    epochs,
    gates,
    history,
    interfaces,
    load_tests,
    models,
    pins,
    rollbacks,
    serving,
    verdicts,
    versions,
)
from registry.entities import (
    ApprovalNeeded,
    Field,
    Gate,
    Interface,
    KeptVerdict,
    LoadTestNeeded,
    Meaning,
    MetricNeeded,
    SignatureNeeded,
    SlotStatus,
    VerdictNeeded,
)
from registry.errors import AliasMoved, GateNotFound, GatesNotMet
from registry.gates import Override
from registry.rollbacks import NothingToGoBackTo
from registry.schema import ModelVersionRow
from registry.sources import Claim
from tracking import experiments, runs
from tracking.access.caller import Caller, set_caller
from tracking.entities import Metric
from tracking.errors import InvalidParameter

DAY_MS = 86_400_000
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
        (0.89999999, "needs accuracy >= 0.9, and its run has 0.89999999"),
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
        Gate(name="g", needs=MetricNeeded("m", "<", math.inf)),
        Gate(name="g", needs=LoadTestNeeded(0)),
        Gate(name="g", needs=VerdictNeeded(" ")),
        Gate(name="g", needs=VerdictNeeded("accuracy", within_hours=0)),
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


# --- what gates need


def stay_out(session, version, why):
    with pytest.raises(GatesNotMet, match=why):
        set_alias(session, "champion", version)


def hold(session, version, *, digest="d" * 64, inputs=("x",)):
    """Have a version be of files that were read."""
    session.get_one(ModelVersionRow, ("iris", version)).digest = digest
    session.flush()
    takes = Interface(inputs=tuple(Field(name, "double") for name in inputs))
    interfaces.keep(session, "iris", version, digest, takes)


def test_a_load_test_counts_if_it_was_passed_by_these_files_not_long_ago(database, iris, add_version):
    version = add_version()
    with database.writing() as session:
        set_gate(session, Gate(name="fast", needs=LoadTestNeeded(7)))
        stay_out(
            session, version, r"needs a passed load test of the last 7 day\(s\), and there is none: `titlebout loadt"
        )
        hold(session, version)
        kept = {"digest": "d" * 64, "report": "{}", "author": "ann"}
        load_tests.keep(session, "iris", version, passed=True, now_ms=NOW - 8 * DAY_MS, **kept)
        stay_out(session, version, "the newest is 8.0 days old")
        load_tests.keep(session, "iris", version, passed=False, now_ms=NOW, **kept)
        stay_out(session, version, "the newest, ann's, wasn't passed")
        load_tests.keep(session, "iris", version, passed=True, now_ms=NOW, **kept)
        session.get_one(ModelVersionRow, ("iris", version)).digest = "e" * 64
        stay_out(session, version, "the newest is of other files")
        session.get_one(ModelVersionRow, ("iris", version)).digest = "d" * 64
        set_alias(session, "champion", version)


def test_a_signature_is_compared_with_the_champions(database, iris, add_version):
    first, other, same, unread = (add_version() for _ in range(4))
    with database.writing() as session:
        set_gate(session, Gate(name="fits", needs=SignatureNeeded()))
        hold(session, first)
        hold(session, other, inputs=("x", "y"))
        hold(session, same)
        set_alias(session, "champion", first)  # There was none to be compatible with.
        stay_out(session, other, "compatible with the champion's, version 1's, and input 'y' is required and new")
        stay_out(session, unread, "version 4 couldn't be read")
        # Taking the champion away first doesn't help.
        aliases.delete_alias(session, "iris", "champion", author="bob", now_ms=NOW)
        stay_out(session, other, "the champion that there was is gone: it takes an override")
        set_alias(session, "champion", first, override=Override("boss", "back", NOW))
        set_alias(session, "champion", same)


@pytest.mark.parametrize(
    ("verdict", "alike", "asked", "why"),
    [
        ("better", False, VerdictNeeded("accuracy"), None),
        ("better", False, VerdictNeeded("accuracy", "not_worse"), None),
        ("not_yet", True, VerdictNeeded("accuracy", "not_worse"), None),
        ("not_yet", True, VerdictNeeded("accuracy"), "so far it says not yet: one can't tell"),
        ("not_yet", False, VerdictNeeded("accuracy", "not_worse"), "to say not worse by accuracy"),
        ("worse", False, VerdictNeeded("accuracy", "not_worse"), "so far it says worse"),
        ("better", False, VerdictNeeded("f1"), "nothing is known by that"),
        (
            "better",
            False,
            VerdictNeeded("accuracy", within_hours=2),
            r"in the last 2 hour\(s\), and it was 3.0 hours ago",
        ),
    ],
)
def test_a_verdict_of_the_comparison_with_the_champion_counts(session, add_champion, verdict, alike, asked, why):
    champion, challenger = add_champion(session)
    set_gate(session, Gate(name="better", needs=asked))
    stay_out(session, challenger, "nothing is known")
    kept = KeptVerdict(
        champion=champion,
        challenger=challenger,
        arm="challenger",
        metric="accuracy",
        from_period=1,
        verdict=verdict,
        reason="one can't tell",
        alike=alike,
        champion_n=1,
        challenger_n=1,
        mismatch_p=1,
        judged_ms=NOW - 3 * 3_600_000,
    )
    endpoint_id = endpoints.get_endpoint(session, "iris").id
    verdicts.keep(session, verdicts.Pair(endpoint_id=endpoint_id, champion=champion, challenger=challenger), [kept])
    if why is None:
        set_alias(session, "champion", challenger)
    else:
        stay_out(session, challenger, why)


@pytest.fixture
def add_champion(policy):
    def add(session):
        claim = Claim(source="s3://shared-models/iris")
        numbers = [versions.create_version(session, "iris", claim, policy=policy, now_ms=NOW).version for _ in range(2)]
        set_alias(session, "champion", numbers[0])
        set_alias(session, "challenger", numbers[1])
        return numbers

    return add


# --- what can come to a version

TRIED = Gate(name="tried", needs=ApprovalNeeded(), aliases=(), share_over_bp=1_000)


def serve(session, *, failing=()):
    """Commit the next tables, with all versions in memory but the *failing*."""
    known = session.execute(select(ModelVersionRow.name, ModelVersionRow.version)).all()
    slots = [
        SlotStatus(model=name, version=version, state="READY") for name, version in known if version not in failing
    ]
    serving.heartbeat(session, "a", slots=slots, epoch=0, now_ms=NOW, lease_ms=5_000)
    while epochs.commit_epoch(session, now_ms=NOW, lead_ms=200):
        continue
    return serving.newest_table(session).routes[0]


def test_several_arms_of_one_version_count_together(session, add_champion):
    _, challenger = add_champion(session)
    set_alias(session, "canary", challenger)
    set_gate(session, TRIED)
    split(session, champion=9_000, challenger=600, canary=400)
    with pytest.raises(GatesNotMet, match="tried"):
        split(session, champion=8_900, challenger=600, canary=500)


def test_an_arm_that_still_answers_from_the_version_before_is_asked_about_that(session, add_champion):
    _, bad = add_champion(session)
    good = bad - 1
    serve(session)
    set_gate(session, TRIED)
    set_alias(session, "challenger", good)
    with pytest.raises(GatesNotMet, match=f"Version {bad} of 'iris' may not be 'challenger'"):
        split(session, champion=5_000, challenger=5_000)
    serve(session)
    split(session, champion=5_000, challenger=5_000)


def test_a_champion_may_get_all_however_small_its_share_is(session, add_champion):
    _, challenger = add_champion(session)
    split(session, champion=500, challenger=9_500)
    set_gate(session, TRIED)
    aliases.delete_alias(session, "iris", "challenger", author="bob", now_ms=NOW)
    with pytest.raises(GatesNotMet, match="tried"):
        set_alias(session, "champion", challenger)
    # The other way is always free: what was champion gets back what it gave.
    split(session, champion=10_000)


def test_a_version_behind_a_bound_is_neither_pinned_nor_asked_by_name(session, add_champion):
    champion, challenger = add_champion(session)
    assert serve(session).by_name is None
    set_gate(session, TRIED)
    assert serve(session).by_name == (champion,)
    with pytest.raises(GatesNotMet, match=f"Version {challenger} of 'iris' may not be pinned so far: gate 'tried'"):
        pins.pin(session, "iris", challenger, author="bob", now_ms=NOW)
    pins.pin(session, "iris", champion, author="bob", now_ms=NOW)
    approvals.approve(session, "iris", challenger, author="bob", now_ms=NOW)
    assert serve(session).by_name == (champion, challenger)
    pins.pin(session, "iris", challenger, author="bob", now_ms=NOW)


def test_gates_wait_for_whoever_takes_the_name_as_a_model_or_as_an_endpoint(session, add_champion):
    add_champion(session)
    serve(session)
    for gated in (TRIED, Gate(name="own", needs=ApprovalNeeded())):
        set_gate(session, gated, "best")
    with pytest.raises(GatesNotMet, match=r"gate 'own of best' needs .*; gate 'tried of best' needs"):
        models.rename_model(session, "iris", "best", author="bob", now_ms=NOW)
    with pytest.raises(GatesNotMet, match="'own of best'"):
        endpoints.rename_endpoint(session, "iris", "best", author="bob", now_ms=NOW)
    approvals.approve(session, "iris", 1, author="bob", now_ms=NOW)
    endpoints.rename_endpoint(session, "iris", "best", author="bob", now_ms=NOW)
    # From now on they are asked, though the model has another name.
    stay_out(session, 2, "gate 'own of best' needs 1 approval")


def test_no_way_back_leads_behind_gates_that_came_with_a_name(session, add_champion):
    bad, good = add_champion(session)
    serve(session)
    set_alias(session, "champion", good)
    serve(session)
    set_gate(session, Gate(name="own", needs=ApprovalNeeded()), "best")
    for version in (bad, good):
        approvals.approve(session, "iris", version, author="bob", now_ms=NOW)
    approvals.withdraw(session, "iris", bad, author="bob", now_ms=NOW)
    models.rename_model(session, "iris", "best", author="bob", now_ms=NOW)
    with pytest.raises(NothingToGoBackTo):
        rollbacks.roll_back(session, "iris", author="bob", now_ms=NOW, lead_ms=200)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_an_alias_that_moves_while_the_split_is_changed_is_asked_about_the_new_share(database, iris, add_version):
    first, second, bad = add_version(accuracy=0.95), add_version(accuracy=0.95), add_version(accuracy=0.5)
    with database.writing() as session:
        set_gate(session, Gate(name="tried", needs=ACCURATE.needs, aliases=(), share_over_bp=1_000))
        set_alias(session, "champion", first)
        set_alias(session, "challenger", second)

    def point():
        with database.writing() as session:
            set_alias(session, "challenger", bad)

    with ThreadPoolExecutor(1) as pool:
        with database.writing() as session:
            split(session, champion=5_000, challenger=5_000)
            pointing = pool.submit(point)
            wait_until_somebody_waits(database)
        with pytest.raises(GatesNotMet, match="tried"):
            pointing.result(60)


def wait_until_somebody_waits(database):
    """For a lock that another transaction holds."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        with database.reading() as session:
            if session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.01)
    raise AssertionError("Nobody waits.")


def test_of_two_promoters_at_once_one_wins_and_the_other_is_told_who(database, iris, add_version):
    first, second, third = add_version(), add_version(), add_version()
    with database.writing() as session:
        set_alias(session, "champion", first)
    both = Barrier(2)

    def promote(author, version):
        both.wait(60)
        try:
            with database.writing() as session:
                aliases.set_alias(
                    session, "iris", "champion", version, author=author, now_ms=NOW, expected=Meaning(first)
                )
        except AliasMoved as moved:
            return moved.message
        return None

    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(("ann", "bob"), pool.map(promote, ("ann", "bob"), (second, third)), strict=True))
    [winner] = [author for author, message in said.items() if message is None]
    [message] = [message for message in said.values() if message is not None]
    version = {"ann": second, "bob": third}[winner]
    assert f"means version {version} and not version 1; {winner} was the last to move it" in message
    with database.reading() as session:
        assert models.get_model(session, "iris").aliases == {"champion": version}
