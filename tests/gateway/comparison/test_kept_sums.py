"""Sums in the database: what is added is read again, adds up, and is refused where it can't be read."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from gateway.comparison import kept_sums
from gateway.comparison.calibration import calibration_sums
from gateway.comparison.distribution import Distribution
from gateway.comparison.latency_counts import counts_of
from gateway.comparison.sums import CLASSES, NUMBERS, REWARDS, SERVING, ClusterSums, Column, UnreadableSums
from registry import tallies
from registry.entities import CHAMPION, Cell
from registry.tallies import Kind

FIRST, SECOND = Cell(period=1, arm=CHAMPION, version=1), Cell(period=2, arm="challenger", version=2)


def add(database, endpoint_id, kind, counted):
    with database.writing() as session:
        kept_sums.add(session, endpoint_id, kind, counted)


def read(database, endpoint_id):
    with database.reading() as session:
        return kept_sums.read(session, endpoint_id)


def sums_of(layout, cluster, amounts):
    sums = ClusterSums(layout)
    sums.add(cluster, amounts)
    return sums


@pytest.mark.parametrize(("kind", "layout"), kept_sums.LAYOUTS.items())
def test_sums_by_cluster_add_up(database, endpoint_id, kind, layout):
    for cell, cluster in ((FIRST, 7), (SECOND, 7), (FIRST, 999)):
        add(database, endpoint_id, kind, {cell: sums_of(layout, cluster, {layout[0]: 2, layout[-1]: 0.5})})
    found = read(database, endpoint_id).tally(layout)
    assert found.cells.keys() == {FIRST, SECOND}
    assert found.cells[FIRST].row(layout[0])[[7, 999]].tolist() == [2, 2]
    assert found.cells[FIRST].values.sum() == 5
    assert found.cells[SECOND].row(layout[-1])[7] == 0.5


def test_what_has_no_clusters_adds_up_too(database, endpoint_id):
    latency = counts_of(np.array([0.001, 0.002, 1e9]))
    calibration = calibration_sums(np.array([0.1, 0.9]), np.array([0.0, 1.0]))
    predictions = Distribution()
    predictions.add_classes(Counter({"setosa": 3}))
    predictions.add_numbers(np.array([1.0, np.inf, -4.0]))
    for _ in range(2):
        add(database, endpoint_id, Kind.LATENCY, {FIRST: latency})
        add(database, endpoint_id, Kind.CALIBRATION, {FIRST: calibration})
        add(database, endpoint_id, Kind.PREDICTIONS, {FIRST: predictions})
    found = read(database, endpoint_id)
    assert found.latency[FIRST].tolist() == (2 * latency).tolist()
    assert found.calibration[FIRST].labels.tolist() == (2 * calibration.labels).tolist()
    assert found.predictions[FIRST].classes == {"setosa": 6}
    assert (found.predictions[FIRST].total, found.predictions[FIRST].lowest) == (-6, -4)
    assert found.predictions[FIRST].places == {481: 2, -513: 2}


def test_nothing_was_counted_of_an_endpoint_that_was_never_asked(database, endpoint_id):
    found = read(database, endpoint_id)
    assert all(not found.tally(layout).cells for layout in (SERVING, CLASSES, NUMBERS, REWARDS))
    assert not found.latency


def test_only_clusters_in_which_something_happened_are_written(database, endpoint_id):
    add(database, endpoint_id, Kind.SERVING, {FIRST: sums_of(SERVING, 7, {Column.REQUESTS: 1})})
    with database.reading() as session:
        content = tallies.read(session, endpoint_id)[Kind.SERVING][FIRST]
    assert len(content) < 120


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param(Kind.SERVING, b"\x00" * 40, id="no list"),
        pytest.param(Kind.SERVING, msgspec.msgpack.encode((99, [])), id="another format"),
        pytest.param(Kind.SERVING, msgspec.msgpack.encode((1, [[], b"\x00"])), id="cut off"),
        pytest.param(Kind.LATENCY, msgspec.msgpack.encode((1, {162: 1})), id="a bucket that there isn't"),
        pytest.param(Kind.CALIBRATION, msgspec.msgpack.encode((1, {"labels": [1.0]})), id="too few bins"),
        pytest.param(Kind.PREDICTIONS, msgspec.msgpack.encode((1, 5)), id="no distribution"),
    ],
)
def test_what_cannot_be_read_is_refused(database, endpoint_id, kind, content):
    with database.writing() as session:
        tallies.add(session, endpoint_id, kind, {FIRST: content}, lambda _, new: new)
    with pytest.raises(UnreadableSums):
        read(database, endpoint_id)


def test_a_field_of_another_release_is_left_out(database, endpoint_id):
    content = msgspec.msgpack.encode((1, {"of_tomorrow": 5, "numbers": 2}))
    with database.writing() as session:
        tallies.add(session, endpoint_id, Kind.PREDICTIONS, {FIRST: content}, lambda _, new: new)
    assert read(database, endpoint_id).predictions[FIRST] == Distribution(numbers=2)
