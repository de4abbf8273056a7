"""Verdicts follow what is counted, whoever judges, and a split that was found wrong stays so."""

import msgspec
import pytest

from gateway.comparison import kept_sums
from gateway.comparison.judge import Judge
from registry import aliases, endpoints, tallies, verdicts
from registry.entities import Cell
from registry.tallies import Kind
from tests.gateway.comparison.made_up import CHALLENGER, CHAMPION, cell, labelled, served


@pytest.fixture
def standings():
    return []


@pytest.fixture
def judge(database, standings):
    """One that never finds that another has just judged."""
    return Judge(database, interval_s=0.0, judged=standings.append)


def count(database, endpoint_id, kind, counted):
    with database.writing() as session:
        kept_sums.add(session, endpoint_id, kind, counted)


def count_even(database, endpoint_id, period, *, accuracy=(0.7, 0.9), seed=1):
    requests = {cell(period, who): served(2_000, seed=seed + who[1]) for who in (CHAMPION, CHALLENGER)}
    labels = {
        cell(period, who): labelled(1_000, accuracy=right, seed=seed + who[1])
        for who, right in zip((CHAMPION, CHALLENGER), accuracy, strict=True)
    }
    count(database, endpoint_id, Kind.SERVING, requests)
    count(database, endpoint_id, Kind.CLASSES, labels)


def kept(database, endpoint_id):
    with database.reading() as session:
        return {each.metric: each for each in verdicts.list_of(session, endpoint_id)}


def test_a_verdict_is_kept_of_each_metric_that_was_counted(database, endpoint_id, two_arms, judge, standings):
    judge.look()
    assert standings == [[]]
    count_even(database, endpoint_id, two_arms)
    judge.look()
    found = kept(database, endpoint_id)
    assert {name: each.verdict for name, each in found.items()} == {"accuracy": "better", "failure_rate": "not_yet"}
    [[standing]] = standings[1:]
    assert (standing.endpoint, standing.arm, set(standing.verdicts)) == ("iris", "challenger", set(found.values()))


def test_nothing_is_judged_again_while_nothing_was_counted_or_another_just_did(
    database, endpoint_id, two_arms, judge, standings
):
    count_even(database, endpoint_id, two_arms)
    judge.look()
    before = kept(database, endpoint_id)
    judge.look()
    assert kept(database, endpoint_id) == before
    other = Judge(database, interval_s=3_600.0, judged=standings.append)
    count_even(database, endpoint_id, two_arms, seed=5)
    other.look()
    assert kept(database, endpoint_id) == before
    # It tells of them all the same.
    assert len(standings[-1]) == 1
    judge.look()
    assert kept(database, endpoint_id)["accuracy"].challenger_n == 2_000


def test_two_who_judge_the_same_say_the_same(database, endpoint_id, two_arms, judge):
    count_even(database, endpoint_id, two_arms)
    judge.look()
    first = kept(database, endpoint_id)
    Judge(database, interval_s=0.0).look()
    again = kept(database, endpoint_id)
    assert [msgspec.structs.replace(again[name], judged_ms=0) for name in first] == [
        msgspec.structs.replace(each, judged_ms=0) for each in first.values()
    ]


def test_a_mismatch_stays_until_units_are_assigned_anew(database, endpoint_id, two_arms, judge):
    count_even(database, endpoint_id, two_arms)
    count(database, endpoint_id, Kind.SERVING, {cell(two_arms, CHAMPION): served(1_500, seed=9)})
    judge.look()
    assert kept(database, endpoint_id)["accuracy"].reason.startswith("locked: ")
    # As many come to the other: by what is there now the split looks right.
    count(database, endpoint_id, Kind.SERVING, {cell(two_arms, CHALLENGER): served(1_500, seed=8)})
    judge.look()
    locked = kept(database, endpoint_id)["accuracy"]
    assert (locked.verdict, locked.mismatch_p < 0.01) == ("not_yet", True)
    with database.writing() as session:
        even = {"champion": 5_000, "challenger": 5_000}
        period = endpoints.change_split(session, "iris", even, author="ann", now_ms=2, reshuffle=True).period
    count_even(database, endpoint_id, period)
    judge.look()
    anew = kept(database, endpoint_id)["accuracy"]
    assert (anew.verdict, anew.from_period, anew.challenger_n) == ("better", period, 1_000)


def test_what_is_damaged_is_logged_and_keeps_nothing_else_from_being_judged(
    database, endpoint_id, two_arms, judge, caplog
):
    count_even(database, endpoint_id, two_arms)
    with database.writing() as session:
        broken = {Cell(two_arms, *CHALLENGER): b"broken"}
        tallies.add(session, endpoint_id, Kind.LATENCY, broken, lambda old, new: new)
    judge.look()
    assert "comparison_failed" in caplog.text
    assert kept(database, endpoint_id) == {}


def test_a_promotion_says_in_the_history_by_what_evidence(database, endpoint_id, two_arms, judge):
    count_even(database, endpoint_id, two_arms)
    judge.look()
    with database.writing() as session:
        aliases.set_alias(session, "iris", "champion", 2, author="ann", now_ms=5)
        judged = verdicts.evidence_for(session, "iris", before=1, version=2)
    assert judged["accuracy"]["verdict"] == "better"
    judge.look()
