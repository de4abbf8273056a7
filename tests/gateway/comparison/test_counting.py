"""What is counted of answers is what one would count one by one, whenever it is added up and written."""

import asyncio
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from gateway.comparison import counting, flushing, kept_sums
from gateway.comparison.counting import Counting
from gateway.comparison.flushing import Flusher
from gateway.comparison.latency_counts import bucket_of
from gateway.comparison.single_predictions import find_single
from gateway.comparison.sums import SERVING, Column, cluster_of
from loaders.base import Batch, Form, JsonAnswer
from registry import tallies
from registry.entities import CHAMPION, Cell
from registry.schema import TallyRow
from registry.tallies import Kind
from tests.gateway.gate import gate_to
from tracking.database import Database

CELL, OTHER = Cell(period=1, arm=CHAMPION, version=1), Cell(period=2, arm="challenger", version=2)
SLOW_S = 0.5
ANSWERS = st.tuples(
    st.integers(0, 9_999),
    st.booleans(),
    st.sampled_from([200, 400, 413, 429, 500, 503, 504]),
    st.floats(0, 200),
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["setosa", "1"]) | st.floats(width=32),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([CELL, OTHER]), ANSWERS, st.booleans()), max_size=40))
def test_adding_up_is_counting_one_by_one(happened):
    counted, sums = Counting(slow_s=SLOW_S), {}
    counters = {cell: counted.counter(("e", cell)) for cell in (CELL, OTHER)}
    for cell, answer, then_take in happened:
        note(counters[cell], *answer)
        if then_take:
            take(counted, sums)
    take(counted, sums)
    assert {place[1]: simple(found) for place, found in sums.items()} == one_by_one(happened)


def note(counter, bucket, unitless, status, took_s, prediction):
    counter.note(bucket, status, took_s, prediction, unitless)


def take(counted, sums):
    for place, part in counted.take().items():
        found = part.added_up()
        if place in sums:
            sums[place].merge(found)
        else:
            sums[place] = found


def simple(sums):
    serving = {
        (column, cluster): n for column in SERVING for cluster, n in enumerate(sums.serving.row(column).tolist()) if n
    }
    latency = {bucket: n for bucket, n in enumerate(sums.latency.tolist()) if n}
    return serving, latency, sums.predictions.classes, sums.predictions.numbers + sums.predictions.not_finite


def one_by_one(happened):
    serving, latency, classes, numbers = (defaultdict(Counter) for _ in range(4))
    for cell, (bucket, unitless, status, took_s, prediction), _ in happened:
        cluster, callers_fault = cluster_of(bucket), 400 <= status < 500
        said = {
            Column.REQUESTS: True,
            Column.UNITLESS: unitless,
            Column.FAILURES: status >= 500,
            Column.SLOW: took_s > SLOW_S and not callers_fault,
        }
        serving[cell].update((column, cluster) for column, is_so in said.items() if is_so)
        latency[cell].update([] if callers_fault else [bucket_of(took_s)])
        if isinstance(prediction, float):
            numbers[cell]["all"] += 1
        elif prediction is not None:
            classes[cell][str(prediction)] += 1
    return {cell: (serving[cell], latency[cell], classes[cell], numbers[cell]["all"]) for cell in serving}


def test_what_is_noted_is_bounded(monkeypatch):
    monkeypatch.setattr(counting, "NOTED_MAX", 10)
    counted = Counting()
    counter = counted.counter(("e", CELL))
    for bucket in range(25):
        counter.note(bucket, 200, 0.001, 1.0, False)
    [part] = counted.take().values()
    assert len(part.noted.marks) == 5
    assert part.added_up().serving.row(Column.REQUESTS).sum() == 25
    assert not counted.take()


def test_of_several_counters_of_one_arm_none_is_forgotten():
    counted = Counting()
    for _ in range(3):
        counted.counter(("e", CELL)).note(5, 200, 0.001, None, False)
    [part] = counted.take().values()
    assert part.added_up().serving.row(Column.REQUESTS)[5] == 3


@pytest.mark.parametrize(
    ("answer", "single"),
    [
        pytest.param(Batch(Form.TENSOR, {"predictions": np.array([2])}), 2, id="a class by number"),
        pytest.param(Batch(Form.TENSOR, {"": np.array([[0.5]], np.float32)}), 0.5, id="a number"),
        pytest.param(Batch(Form.TABLE, {"label": np.array(["spam"], object)}), "spam", id="a class by name"),
        pytest.param(Batch(Form.TENSOR, {"": np.array([True])}), True, id="yes or no"),
        pytest.param(Batch(Form.TENSOR, {"": np.array([1, 2])}), None, id="two rows"),
        pytest.param(Batch(Form.TENSOR, {"": np.array([[0.1, 0.9]])}), None, id="probabilities"),
        pytest.param(Batch(Form.TABLE, {"a": np.array([1]), "b": np.array([1])}), None, id="two columns"),
        pytest.param(Batch(Form.TABLE, {"a": np.array([{"x": 1}], object)}), None, id="an object"),
        pytest.param(Batch(Form.TABLE, {"a": np.array(["2026-11-23"], "datetime64[D]")}), None, id="a time"),
        pytest.param(JsonAnswer(b"1"), None, id="JSON"),
    ],
)
def test_a_single_prediction_is_one_class_or_one_number(answer, single):
    assert find_single(answer) == single


# --- into the database


@pytest.fixture
def counted():
    return Counting()


@pytest.fixture
def lost():
    return []


@pytest.fixture
def flusher(database, counted, lost):
    return Flusher(counted, database, lost=lost.append)


def requests(database, endpoint_id):
    with database.reading() as session:
        cells = kept_sums.read(session, endpoint_id).tally(SERVING).cells
    return {cell: sums.row(Column.REQUESTS).sum() for cell, sums in cells.items()}


def test_what_two_workers_count_adds_up_in_the_database(database, endpoint_id):
    for _ in range(2):
        worker = Counting()
        flusher = Flusher(worker, database)
        for cell in (CELL, OTHER, CELL):
            worker.counter((endpoint_id, cell)).note(3, 200, 0.002, "setosa", True)
        asyncio.run(flusher.flush())
        worker.counter((endpoint_id, CELL)).note(3, 503, 0.002, None, True)
        flusher.close()
    with database.reading() as session:
        kept = kept_sums.read(session, endpoint_id)
    assert kept.tally(SERVING).cells[CELL].values[:, 3].tolist() == [6, 6, 2, 0]
    assert kept.latency[CELL].sum() == 6
    assert kept.predictions[CELL].classes == {"setosa": 4}
    assert requests(database, endpoint_id)[OTHER] == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_counts_wait_while_the_database_is_away(database, endpoint_id, counted, migrated_postgres, lost):
    counter = counted.counter((endpoint_id, CELL))
    with gate_to(migrated_postgres) as (gate, url):
        flusher = Flusher(counted, Database(url), lost=lost.append)
        gate.shut()
        for _ in range(2):
            counter.note(3, 200, 0.002, None, False)
            asyncio.run(flusher.flush())
        gate.open()
        asyncio.run(flusher.flush())
        assert requests(database, endpoint_id) == {CELL: 2}
        gate.shut()
        counter.note(3, 200, 0.002, None, False)
        flusher.close()
    # At the end there is nothing left to wait for.
    assert lost == [1]


def test_of_more_arms_than_can_wait_the_later_are_lost_and_said_to_be(
    database, endpoint_id, counted, flusher, lost, monkeypatch
):
    monkeypatch.setattr(flushing, "CELLS_MAX", 1)
    for cell in (CELL, OTHER, CELL):
        counted.counter((endpoint_id, cell)).note(3, 200, 0.002, None, False)
    flusher.close()
    assert requests(database, endpoint_id) == {CELL: 2}
    assert lost == [1]


def test_what_cannot_be_written_keeps_nothing_else_from_it(database, endpoint_id, counted, flusher):
    with database.writing() as session:
        tallies.add(session, endpoint_id, Kind.LATENCY, {CELL: b"of a later release"}, lambda _, new: new)
    for place in ((endpoint_id, CELL), ("an endpoint that is gone", CELL)):
        counted.counter(place).note(3, 200, 0.002, None, False)
    asyncio.run(flusher.flush())
    with database.writing() as session:
        session.execute(delete(TallyRow))
    counted.counter((endpoint_id, CELL)).note(3, 200, 0.002, None, False)
    flusher.close()
    assert requests(database, endpoint_id) == {CELL: 1}
