"""Verdicts follow what is counted, whoever judges, and a split that was found wrong stays so."""

import msgspec
import pytest

from gateway.comparison import kept_sums
from gateway.comparison.judge import Judge
from gateway.observability.comparison_metrics import show
from gateway.observability.metrics import Metrics
from registry import aliases, endpoints, history, tallies, verdicts
from registry.entities import Cell
from registry.tallies import Kind
from tests.gateway.comparison.made_up import CHALLENGER, CHAMPION, cell, labelled, served


@pytest.fixture
def judge(database):
    """One that never finds that another has just judged."""
    return Judge(database, interval_s=0.0)


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


def test_a_verdict_is_kept_of_each_metric_that_was_counted(database, endpoint_id, two_arms, judge):
    assert judge.look() == []
    count_even(database, endpoint_id, two_arms)
    [standing] = judge.look()
    found = kept(database, endpoint_id)
    assert {name: each.verdict for name, each in found.items()} == {"accuracy": "better", "failure_rate": "not_yet"}
    assert (standing.endpoint, standing.arm, set(standing.verdicts)) == ("iris", "challenger", set(found.values()))


def test_nothing_is_judged_again_while_nothing_was_counted_or_another_just_did(database, endpoint_id, two_arms, judge):
    count_even(database, endpoint_id, two_arms)
    judge.look()
    before = kept(database, endpoint_id)
    judge.look()
    assert kept(database, endpoint_id) == before
    other = Judge(database, interval_s=3_600.0)
    count_even(database, endpoint_id, two_arms, seed=5)
    [standing] = other.look()
    assert kept(database, endpoint_id) == before
    # It tells of them all the same.
    assert set(standing.verdicts) == set(before.values())
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
        entries = history.list_history(session, "iris", alias="champion").items
    [promotion] = [entry for entry in entries if entry.version == 2]
    assert promotion.details["verdicts"]["accuracy"]["verdict"] == "better"


def test_a_round_is_told_as_gauges(database, endpoint_id, two_arms, judge):
    count_even(database, endpoint_id, two_arms)
    metrics = Metrics()
    show(metrics, judge.look())
    told = {part.family.name: part.samples for part in metrics.snapshot().families}
    labels = ("iris", "iris", "2", "challenger")
    verdicts_told = {sample.labels: sample.value for sample in told["gateway_comparison_verdict"]}
    assert verdicts_told == {(*labels, "accuracy"): 1.0, (*labels, "failure_rate"): 0.0}
    [mismatch] = told["gateway_comparison_mismatch_p"]
    assert (mismatch.labels, mismatch.value > 0.01) == (labels, True)
    lower, upper = (
        {sample.labels[-1]: sample.value for sample in told[name]}
        for name in ("gateway_comparison_lower", "gateway_comparison_upper")
    )
    assert 0 < lower["accuracy"] < 0.2 < upper["accuracy"]
    show(metrics, [])
    assert all(not part.samples for part in metrics.snapshot().families)
