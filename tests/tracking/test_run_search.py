"""Runs found by what was logged to them, the same on both databases as a plain evaluator in Python says."""

import itertools
import math
import operator
import random
import re

import pytest

from tracking import experiments, run_search, runs
from tracking.entities import Dataset, DatasetInput, Metric, RunStatus, ViewType
from tracking.errors import InvalidParameter
from tracking.filters import InvalidPageToken, page_token, read_page_token

COUNT = 60


@pytest.fixture
def populated(database):
    """Sixty runs of two experiments, with some metrics NaN, some params absent, and many ties."""
    dice = random.Random(7)
    with database.writing() as session:
        ids = [experiments.create_experiment(session, name, now_ms=1) for name in ("a", "b")]
        for number in range(COUNT):
            name = f"run-{number % 7}"
            run = runs.create_run(session, ids[number % 2], start_time_ms=number // 3, name=name)
            metrics = [
                Metric(key=key, value=dice.choice([math.nan, *range(5)]), timestamp_ms=1)
                for key in ("x", "y z")
                if dice.random() < 0.8
            ]
            params = [(key, dice.choice("abcAB%_")) for key in ("p", "q") if dice.random() < 0.7]
            tags = [("t", dice.choice(["one", "two", "ONE", ""]))] if dice.random() < 0.5 else []
            runs.log_batch(session, run.info.run_id, metrics=metrics, params=params, tags=tags)
            if number % 5 == 0:
                runs.update_run(session, run.info.run_id, status=RunStatus.FINISHED, end_time_ms=100 - number)
        everything = run_search.search_runs(session, ids).items
    return database, ids, everything


def search(populated, text=None, order_by=(), **others):
    database, ids, _ = populated
    with database.reading() as session:
        return run_search.search_runs(session, ids, filter_text=text, order_by=order_by, **others)


# --- filters, against an evaluator


def _matches(pattern, value, flags=0):
    expression = "".join({"%": ".*", "_": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(expression, value, flags | re.DOTALL) is not None


OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "LIKE": lambda value, pattern: _matches(pattern, value),
    "ILIKE": lambda value, pattern: _matches(pattern, value, re.IGNORECASE),
    "IN": lambda value, values: value in values,
    "NOT IN": lambda value, values: value not in values,
}


def _value(run, kind, key):
    match kind:
        case "metrics":
            return {one.key: one.value for one in run.metrics}.get(key)
        case "params":
            return run.params.get(key)
        case "tags":
            return run.tags.get(key)
        case _:
            return {"start_time": run.info.start_time_ms, "end_time": run.info.end_time_ms, "run_name": run.info.name}[
                key
            ]


def _holds(run, kind, key, comparator, value):
    known = _value(run, kind, key)
    if comparator in ("IS NULL", "IS NOT NULL"):
        return (known is None) == (comparator == "IS NULL")
    return known is not None and OPERATORS[comparator](known, value)


def _written(value):
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "(" + ", ".join(_written(one) for one in value) + ")"
    return f"'{value}'" if isinstance(value, str) else str(value)


FIELDS = [
    *itertools.product(["metrics"], ["x", "y z", "none"]),
    *itertools.product(["params"], ["p", "q"]),
    *itertools.product(["tags"], ["t", "none"]),
    *itertools.product(["attributes"], ["run_name", "start_time", "end_time"]),
]


def _some_conditions(dice):
    for _ in range(dice.choice([1, 1, 2, 3])):
        kind, key = dice.choice(FIELDS)
        if kind == "metrics" or key.endswith("_time"):
            scale = 1 if kind == "metrics" else 6
            yield kind, key, dice.choice(list(OPERATORS)[:6]), dice.choice([0, 1, 2, 3, 2.5]) * scale
            continue
        comparators = ["=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"] + ["IS NULL", "IS NOT NULL"] * (kind != "attributes")
        comparator = dice.choice(comparators)
        texts = ["a", "A", "b%", "%", "_", "one", "ONE", "%O%", "", "run-3", "RUN-_"]
        value = tuple(dice.sample(texts, 3)) if comparator in ("IN", "NOT IN") else dice.choice(texts)
        yield kind, key, comparator, None if comparator.startswith("IS") else value


def test_filters_find_what_an_evaluator_finds(populated):
    everything = populated[2]
    dice = random.Random(11)
    for _ in range(150):
        conditions = list(_some_conditions(dice))
        text = " AND ".join(f"{kind}.`{key}` {how} {_written(value)}" for kind, key, how, value in conditions)
        expected = [run for run in everything if all(_holds(run, *condition) for condition in conditions)]
        assert search(populated, text).items == expected, text


# --- orders and pages


def _rank(value):
    return 2 if value is None else 1 if value != value else 0


def _sorted(everything, *orders):
    ordered = sorted(everything, key=lambda run: run.info.run_id)
    ordered.sort(key=lambda run: run.info.start_time_ms, reverse=True)
    for kind, key, descending in reversed(orders):
        present = [run for run in ordered if _rank(_value(run, kind, key)) == 0]
        present.sort(key=lambda run: _value(run, kind, key), reverse=descending)
        ordered = present + [run for rank in (1, 2) for run in ordered if _rank(_value(run, kind, key)) == rank]
    return ordered


ORDERS = [
    (),
    (("metrics", "x", True),),
    (("metrics", "x", False), ("params", "p", True)),
    (("params", "p", False), ("metrics", "y z", True), ("attributes", "start_time", False)),
    (("tags", "t", True), ("attributes", "run_name", False)),
    (("attributes", "end_time", True), ("tags", "t", False)),
    (("metrics", "none", True), ("metrics", "x", True)),
]


TEXTS = [None, "metrics.x >= 1", "metrics.x != 2", "params.p IS NULL", "tags.t != 'two'"]


def _pages(populated, text, order_by):
    token = None
    while True:
        page = search(populated, text, order_by, max_results=9, page_token=token)
        yield from page.items
        token = page.next_page_token
        if token is None:
            return


def test_any_order_holds_over_pages_with_what_is_missing_last(populated):
    for orders, text in itertools.product(ORDERS, TEXTS):
        order_by = [f"{kind}.`{key}` {'DESC' if descending else 'ASC'}" for kind, key, descending in orders]
        expected = _sorted(search(populated, text).items, *orders)
        found = _pages(populated, text, order_by)
        assert [run.info.run_id for run in found] == [run.info.run_id for run in expected], (text, order_by)


def test_pages_neither_repeat_nor_skip_while_runs_are_added(populated):
    database, ids, everything = populated
    before = {run.info.run_id for run in everything}
    seen, token = [], None
    for number in itertools.count():
        page = search(populated, order_by=["metrics.x DESC"], max_results=11, page_token=token)
        seen += [run.info.run_id for run in page.items]
        token = page.next_page_token
        if token is None:
            break
        with database.writing() as session:
            added = runs.create_run(session, ids[0], start_time_ms=1000 + number).info.run_id
            runs.log_metric(session, added, Metric(key="x", value=9, timestamp_ms=1))
    assert len(seen) == len(set(seen))
    assert before <= set(seen)


def test_only_the_asked_experiments_and_stages_are_searched(populated):
    database, ids, everything = populated
    of_first = [run for run in everything if run.info.experiment_id == ids[0]]
    with database.writing() as session:
        assert run_search.search_runs(session, [ids[0], "999", "9" * 40]).items == of_first
        assert run_search.search_runs(session, []).items == []
        runs.delete_run(session, of_first[0].info.run_id, now_ms=1)
        deleted = run_search.search_runs(session, ids, view=ViewType.DELETED_ONLY).items
        assert [run.info.run_id for run in deleted] == [of_first[0].info.run_id]
        assert len(run_search.search_runs(session, ids, view=ViewType.ALL).items) == COUNT


def test_runs_are_found_by_their_datasets(populated):
    database, _, everything = populated
    dataset = Dataset(name="iris", digest="abc", source_type="local", source="{}")
    link = DatasetInput(dataset=dataset, tags={"mlflow.data.context": "train"})
    with database.writing() as session:
        runs.log_inputs(session, everything[3].info.run_id, datasets=[link])
    for text, count in (
        ("dataset.name = 'iris' AND dataset.digest LIKE 'a%'", 1),
        ("datasets.context IN ('train', 'test')", 1),
        ("dataset.name != 'iris'", 0),
    ):
        assert len(search(populated, text).items) == count


def test_a_long_param_is_found_by_its_whole_value(populated):
    database, _, everything = populated
    first, second = "x" * 3000 + "1", "x" * 3000 + "2"
    with database.writing() as session:
        runs.log_param(session, everything[0].info.run_id, "long", first)
        runs.log_param(session, everything[1].info.run_id, "long", second)
    assert [run.params["long"] for run in search(populated, f"params.long = '{second}'").items] == [second]


def test_a_forged_token_is_refused(populated):
    real = search(populated, max_results=1).next_page_token
    search_key = read_page_token(real, list)[0]
    forged = [[], [1], ["a", "b"], [None, None], [True, "x"], [2**70, "x"], [1, "a\0b"], [1, 2, 3], "ab"]
    for turn, values in itertools.product((0, 1, -1), forged):
        with pytest.raises(InvalidPageToken):
            search(populated, page_token=page_token([search_key, turn, values]))


def test_the_largest_search_is_answered_and_a_larger_one_refused(populated):
    texts = itertools.cycle(["metrics.x != 77", "params.none IS NULL", "tags.none IS NULL", "start_time >= 0"])
    largest = {
        "text": " AND ".join(itertools.islice(texts, 200)),
        "order_by": [f"metrics.m{number} DESC" for number in range(20)],
    }
    assert search(populated, **largest, max_results=3).items
    with pytest.raises(InvalidParameter):
        search(populated, order_by=["metrics.x"] * 21)
    with populated[0].reading() as session:
        assert run_search.search_runs(session, [str(number) for number in range(20_000)]).items
        with pytest.raises(InvalidParameter):
            run_search.search_runs(session, ["1"] * 20_001)
