"""Which of what was counted may be compared, and that it doesn't matter who counted what."""

import numpy as np
import pytest

from gateway.comparison import kept_sums
from gateway.comparison.evidence import (
    assignment_ratio,
    compare_metric,
    evidence_of,
    failure_ratio,
    gather,
    latency_ratio,
    metrics_counted,
)
from gateway.comparison.metrics import ACCURACY, FAILURE_RATE
from gateway.comparison.statistics import Method
from gateway.comparison.sums import Column
from registry import endpoints
from registry.tallies import Kind
from tests.gateway.comparison.made_up import (
    CHALLENGER,
    CHAMPION,
    calibrated,
    cell,
    even_traffic,
    half_and_half,
    kept,
    labelled,
    predicted,
    served,
    split_of,
    took,
)


def evidence(counted, splits, champion=CHAMPION, challenger=CHALLENGER):
    return evidence_of(kept(counted), splits, champion=champion, challenger=challenger)


SHARED = half_and_half(2)
ALONE = split_of(3, {"champion": 10_000, "challenger": 0})
OTHER = ("challenger", 3)


@pytest.mark.parametrize(
    ("serving", "used", "left_out"),
    [
        pytest.param({}, (), (), id="nothing was counted"),
        pytest.param(even_traffic([2]), (2,), (), id="both were asked"),
        pytest.param(even_traffic([2, 3]), (2,), (), id="a period in which the challenger was dark"),
        pytest.param(even_traffic([2, 9]), (2,), (), id="a period that no split is of"),
        pytest.param({cell(2, CHAMPION): served(10)}, (), (), id="one of them was never asked"),
        pytest.param({**even_traffic([2]), cell(2, OTHER): served(500)}, (), (2,), id="another version answered too"),
        pytest.param({**even_traffic([2]), cell(2, OTHER): served(20)}, (2,), (), id="another did for a moment"),
    ],
)
def test_a_period_counts_if_both_had_a_share_and_hardly_another_version_answered(serving, used, left_out):
    found = evidence({Kind.SERVING: serving}, [SHARED, ALONE])
    assert (found.periods, found.left_out) == (used, left_out)
    assert compare_metric(found, FAILURE_RATE).champion_n == sum(
        serving[cell(period, CHAMPION)].row(Column.REQUESTS).sum() for period in used
    )


def test_a_split_is_tested_by_arm_whichever_version_answered():
    counted = even_traffic([2]) | {cell(2, OTHER): served(20)}
    [split] = evidence({Kind.SERVING: counted}, [SHARED]).splits
    assert split.requests.sum(axis=-1).tolist() == [2_000, 2_020]
    assert split.buckets.sum(axis=-1).tolist() == [5_000, 5_000]


def test_only_what_was_counted_of_both_is_compared():
    counted = {
        Kind.SERVING: even_traffic([2]),
        Kind.CLASSES: {cell(2, CHAMPION): labelled(900, accuracy=0.8), cell(2, CHALLENGER): labelled(900, accuracy=1)},
        Kind.REWARDS: {},
    }
    found = evidence(counted, [SHARED])
    assert {metric.name for metric in metrics_counted(found)} == {"failure_rate", "accuracy"}
    better = compare_metric(found, ACCURACY)
    assert better.interval.lower > 0.1
    assert metrics_counted(evidence({}, [SHARED])) == []


def test_all_kinds_are_summed_over_the_periods_that_count():
    both = (CHAMPION, CHALLENGER)
    counted = {
        Kind.SERVING: even_traffic([1, 2, 3]),
        Kind.LATENCY: {cell(period, who): took(5_000, 0.01 * who[1]) for period in (1, 2, 3) for who in both},
        Kind.CALIBRATION: {cell(2, who): calibrated(300) for who in both},
        Kind.PREDICTIONS: {cell(period, CHAMPION): predicted(a=1, b=2) for period in (1, 2, 3)},
    }
    found = evidence(counted, [half_and_half(1), SHARED, ALONE])
    assert [int(counts.sum()) for counts in found.latency] == [10_000, 10_000]
    assert [sums.labels.sum() for sums in found.calibration] == [300, 300]
    assert [each.classes for each in found.predictions] == [{"a": 2, "b": 4}, {}]
    lower, upper = latency_ratio(found, 0.99)
    assert lower > 1.5
    assert upper < 2.6


def test_a_failing_challenger_and_lost_answers_show():
    serving = {cell(2, CHAMPION): served(4_000, failing=0.001), cell(2, CHALLENGER): served(2_000, failing=0.05)}
    found = evidence({Kind.SERVING: serving}, [SHARED])
    lower, _ = failure_ratio(found)
    assert lower > 3
    assert assignment_ratio(found).mismatch
    assert not assignment_ratio(evidence({Kind.SERVING: even_traffic([2])}, [SHARED])).mismatch
    assert not assignment_ratio(evidence({}, [SHARED])).mismatch


def test_one_version_under_two_names_is_said_to_be_one():
    assert evidence({}, [SHARED], challenger=("challenger", 1)).is_one_version
    assert not evidence({}, [SHARED]).is_one_version


def test_nothing_at_all_gives_no_verdict():
    assert compare_metric(evidence({}, []), ACCURACY).interval.method in {Method.NONE, Method.EMPIRICAL_BERNSTEIN}
    assert failure_ratio(evidence({}, [])) == (0, np.inf)
    assert latency_ratio(evidence({}, []), 0.99) == (0, np.inf)


def parts_of(sums, *, into):
    """The same requests, counted by so many workers: each has some of the clusters."""
    parts = [type(sums)(sums.layout, np.zeros_like(sums.values)) for _ in range(into)]
    for number, part in enumerate(parts):
        part.values[:, number::into] = sums.values[:, number::into]
    return parts


def test_two_workers_of_two_replicas_before_and_after_a_restart_come_to_what_one_comes_to(
    database, endpoint_id, two_arms
):
    champion, challenger = cell(two_arms, CHAMPION), cell(two_arms, CHALLENGER)
    whole = {
        Kind.SERVING: {champion: served(3_000, failing=0.01), challenger: served(3_000, seed=2)},
        Kind.CLASSES: {champion: labelled(800, accuracy=0.8), challenger: labelled(700, accuracy=0.9, seed=2)},
    }
    counters = 2 * 2 * 2
    for number in range(counters):
        for kind, counted in whole.items():
            part = {at: parts_of(sums, into=counters)[number] for at, sums in counted.items()}
            with database.writing() as session:
                kept_sums.add(session, endpoint_id, kind, part)
    with database.reading() as session:
        endpoint, split = endpoints.get_endpoint(session, "iris"), endpoints.get_split(session, endpoint_id)
        found = gather(session, endpoint, champion=CHAMPION, challenger=CHALLENGER)
        later = gather(session, endpoint, champion=CHAMPION, challenger=CHALLENGER, from_period=two_arms + 1)
    at_once = evidence(whole, [split])
    assert (found.periods, later.periods) == (at_once.periods, ()) == ((two_arms,), ())
    for metric in (ACCURACY, FAILURE_RATE):
        assert str(compare_metric(found, metric)) == str(compare_metric(at_once, metric))
    assert assignment_ratio(found) == assignment_ratio(at_once)
