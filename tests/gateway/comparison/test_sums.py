"""Sums merge in any order, over any number of workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.comparison.sums import (
    CLASSES,
    CLUSTERS,
    SERVING,
    Cell,
    ClusterSums,
    Column,
    Tally,
    UnreadableSums,
    WireSums,
    buckets_by_cluster,
    cluster_of,
)

CELLS = st.builds(Cell, period=st.integers(1, 3), arm=st.sampled_from(["champion", "challenger"]), version=st.just(1))
COUNTED = st.tuples(CELLS, st.integers(0, CLUSTERS - 1), st.sampled_from(SERVING), st.integers(0, 2**40))
TALLIES = st.lists(COUNTED, max_size=6)


def tally_of(counted) -> Tally:
    tally = Tally(SERVING)
    for cell, cluster, column, amount in counted:
        tally.of(cell).add(cluster, {column: amount})
    return tally


def values_of(tally: Tally) -> dict[Cell, bytes]:
    return {cell: sums.values.tobytes() for cell, sums in tally.cells.items()}


def merged(*tallies: Tally) -> Tally:
    whole = Tally(SERVING)
    for tally in tallies:
        whole.merge(tally)
    return whole


@settings(deadline=None, max_examples=60)
@given(TALLIES, TALLIES, TALLIES)
def test_it_is_all_one_in_which_order_workers_are_merged(first, second, third):
    a, b, c = (tally_of(counted) for counted in (first, second, third))
    whole = values_of(tally_of([*first, *second, *third]))
    assert values_of(merged(a, b, c)) == whole
    assert values_of(merged(c, merged(b, a))) == whole
    assert values_of(merged(merged(a, b), c)) == whole


def test_many_are_counted_like_one_after_the_other():
    clusters, correct = np.array([3, 999, 3]), np.array([1.0, 0.0, 1.0])
    at_once, singly = ClusterSums(CLASSES), ClusterSums(CLASSES)
    at_once.add_many(clusters, {Column.LABELS: np.ones(3), Column.CORRECT: correct})
    for cluster, right in zip(clusters, correct, strict=True):
        singly.add(int(cluster), {Column.LABELS: 1, Column.CORRECT: right})
    assert np.array_equal(at_once.values, singly.values)
    assert at_once.row(Column.LABELS)[3] == 2


def test_a_column_of_another_release_is_dropped_and_a_missing_one_starts_at_zero():
    wire = WireSums(
        columns=["requests", "of_tomorrow"],
        clusters=np.array([5], "<u2").tobytes(),
        values=np.array([[3.0], [9.0]], "<f8").tobytes(),
    )
    read = ClusterSums.from_wire(wire, SERVING)
    assert read.row(Column.REQUESTS)[5] == 3
    assert read.values.sum() == 3


@pytest.mark.parametrize(
    ("clusters", "values"),
    [
        pytest.param([1000], [1.0], id="a cluster that there isn't"),
        pytest.param([1, 1], [1.0, 2.0], id="one twice"),
        pytest.param([1], [float("nan")], id="no number"),
        pytest.param([1], [1.0, 2.0], id="too many values"),
    ],
)
def test_parts_that_do_not_fit_are_refused(clusters, values):
    wire = WireSums(["requests"], np.array(clusters, "<u2").tobytes(), np.array(values, "<f8").tobytes())
    with pytest.raises(UnreadableSums):
        ClusterSums.from_wire(wire, SERVING)


def test_arms_are_put_beside_each_other_period_by_period():
    champion, challenger = ("champion", 1), ("challenger", 2)
    counted = [
        (3, *champion, 30),
        (1, *champion, 10),
        (1, *challenger, 5),
        (2, *challenger, 7),
        (1, "challenger", 9, 99),
    ]
    tally = tally_of([(Cell(period, arm, version), 0, Column.REQUESTS, n) for period, arm, version, n in counted])
    found = [(float(a.sum()), float(b.sum())) for a, b in tally.periods_of(champion, challenger)]
    assert found == [(10, 5), (0, 7), (30, 0)]
    ((nothing, _),) = Tally(SERVING).periods_of(champion, challenger)
    assert nothing.sum() == 0


def test_a_small_arm_has_a_cluster_for_each_of_its_buckets():
    owners = ["challenger"] * 100 + ["champion"] * 9_900
    owned = buckets_by_cluster(owners, "challenger")
    assert owned.sum() == 100
    assert np.count_nonzero(owned) == 100
    assert cluster_of(9_999) == 999
    assert buckets_by_cluster(owners, "champion").sum() == 9_900
