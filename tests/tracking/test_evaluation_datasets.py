"""Evaluation datasets and their records, on both databases."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracking import evaluation_datasets, evaluation_records, experiments, run_inputs, runs
from tracking.entities import Dataset, DatasetInput, DatasetSummary, RecordSource
from tracking.errors import InvalidParameter
from tracking.evaluation_datasets import EvaluationDatasetNotFound
from tracking.experiments import ExperimentNotFound

NOW_MS = 1_700_000_000_000


@pytest.fixture
def experiment_id(database):
    with database.writing() as session:
        return experiments.create_experiment(session, "iris", now_ms=NOW_MS)


@pytest.fixture
def dataset_id(database):
    with database.writing() as session:
        return evaluation_datasets.create_dataset(session, "questions", now_ms=NOW_MS).dataset_id


@pytest.fixture
def write(database, dataset_id):
    def write(*records, now_ms=NOW_MS + 1):
        with database.writing() as session:
            return evaluation_records.write_records(session, dataset_id, records, now_ms=now_ms)

    return write


@pytest.fixture
def listed(database, dataset_id):
    def listed(**asked):
        with database.reading() as session:
            return evaluation_records.list_records(session, dataset_id, **asked)

    return listed


def test_a_dataset_comes_back_as_it_was_made(database, experiment_id):
    with database.writing() as session:
        made = evaluation_datasets.create_dataset(
            session,
            "questions",
            tags={"team": "bees", "mlflow.user": "maya"},
            experiment_ids=[experiment_id, experiment_id],
            now_ms=NOW_MS,
        )
    with database.reading() as session:
        assert evaluation_datasets.get_dataset(session, made.dataset_id) == made
    assert (made.created_by, made.experiment_ids) == ("maya", (experiment_id,))
    assert made.tags == {"mlflow.user": "maya", "team": "bees"}


def test_a_dataset_belongs_to_experiments_that_there_are(database, dataset_id, experiment_id):
    with database.writing() as session:
        added = evaluation_datasets.add_to_experiments(session, dataset_id, [experiment_id], now_ms=NOW_MS + 1)
        assert (added.experiment_ids, added.updated_ms) == ((experiment_id,), NOW_MS + 1)
        with pytest.raises(ExperimentNotFound):
            evaluation_datasets.add_to_experiments(session, dataset_id, ["77"], now_ms=NOW_MS)
        removed = evaluation_datasets.remove_from_experiments(session, dataset_id, [experiment_id, "77"], now_ms=NOW_MS)
        assert removed.experiment_ids == ()


def test_datasets_are_found_by_name_tag_and_experiment_in_pages(database, experiment_id):
    with database.writing() as session:
        for number in range(5):
            evaluation_datasets.create_dataset(
                session,
                f"set {number}",
                tags={"parity": "even" if number % 2 == 0 else "odd"},
                experiment_ids=[experiment_id] if number else [],
                now_ms=NOW_MS + number,
            )

    def names(**asked):
        with database.reading() as session:
            page = evaluation_datasets.search_datasets(session, **asked)
        return [one.name for one in page.items], page.next_page_token

    assert names()[0] == [f"set {number}" for number in (4, 3, 2, 1, 0)]
    assert names(experiment_ids=[experiment_id], filter_text="tags.parity = 'even'")[0] == ["set 4", "set 2"]
    assert names(filter_text="name LIKE 'set%' AND created_time > 1700000000003")[0] == ["set 4"]
    first, token = names(order_by=["name ASC"], max_results=3)
    assert names(order_by=["name ASC"], max_results=3, page_token=token) == (["set 3", "set 4"], None)
    assert first == ["set 0", "set 1", "set 2"]


def test_records_come_back_as_they_were_sent_in_their_order(write, listed):
    sent = {
        "inputs": {"question": "Was ist 1+1?", "deep": {"list": [1, 2.5, None, True]}},
        "outputs": "2",
        "expectations": {"answer": "2"},
        "tags": {"mlflow.user": "maya"},
        "source": {"source_type": "trace", "source_data": {"trace_id": "tr-1"}},
    }
    assert write(*({"inputs": {"number": number}} for number in range(20)), sent) == (21, 0)
    records = listed().items
    assert [record.inputs.get("number") for record in records] == [*range(20), None]
    last = records[-1]
    assert (last.inputs, last.outputs, last.expectations) == (sent["inputs"], "2", {"answer": "2"})
    assert (last.source, last.created_by) == (RecordSource(kind="TRACE", data={"trace_id": "tr-1"}), "maya")


def test_the_same_inputs_again_change_the_record_whatever_the_order_of_their_keys(write, listed):
    write({"inputs": {"a": 1, "b": 2}, "outputs": 1, "expectations": {"x": 1}, "tags": {"t": "1"}})
    again = {"inputs": {"b": 2, "a": 1}, "outputs": None, "expectations": {"y": 2}, "tags": {"u": "2"}}
    assert write(again, {"inputs": {"new": 1}}, {"inputs": {"new": 1}}) == (1, 2)
    first, second = listed().items
    assert (first.outputs, first.expectations, first.tags) == (None, {"x": 1, "y": 2}, {"t": "1", "u": "2"})
    assert second.inputs == {"new": 1}


def test_values_that_no_database_has_as_json_are_kept(write, listed):
    write({"inputs": {"nan": math.nan, "nul": "a\0b", "half": "\ud800"}})
    (record,) = listed().items
    assert math.isnan(record.inputs["nan"])
    assert (record.inputs["nul"], record.inputs["half"]) == ("a\0b", "\ud800")


def test_a_dataset_says_what_its_records_look_like_and_how_many_they_are(database, dataset_id, write, listed):
    write({"inputs": {"text": "a", "top": 3}, "outputs": {"score": 0.5}}, {"inputs": {"text": "b", "flag": True}})
    with database.writing() as session:
        before = evaluation_datasets.get_dataset(session, dataset_id)
        ids = [record.record_id for record in listed().items]
        assert evaluation_records.delete_records(session, dataset_id, [*ids, "none"], now_ms=NOW_MS + 9) == 2
        after = evaluation_datasets.get_dataset(session, dataset_id)
    assert json.loads(before.schema) == {
        "inputs": {"text": "string", "top": "integer", "flag": "boolean"},
        "outputs": {"score": "float"},
        "expectations": {},
        "version": "1.0",
    }
    assert (json.loads(before.profile), after.profile) == ({"num_records": 2}, None)
    assert before.digest != after.digest


def test_records_come_in_pages(write, listed):
    write(*({"inputs": {"number": number}} for number in range(7)))
    found, token = [], None
    while True:
        page = listed(max_results=3, page_token=token)
        found += [record.inputs["number"] for record in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert found == list(range(7))


def test_writers_at_once_make_one_record_of_the_same_inputs(write, listed):
    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(lambda number: write({"inputs": {"q": number % 3}}), range(12)))
    assert len(listed().items) == 3
    assert sum(one.inserted for one in written) == 3


@pytest.mark.parametrize(
    ("record", "said"),
    [
        pytest.param({}, "inputs must be an object", id="no inputs"),
        pytest.param({"inputs": "text"}, "inputs must be an object", id="inputs that are none"),
        pytest.param({"inputs": {}, "tags": ["a"]}, "tags must be an object", id="tags that are none"),
        pytest.param({"inputs": {}, "source": {"source_type": "dream"}}, "must be one of", id="an unknown source"),
        pytest.param({"inputs": {}, "tags": {"mlflow.user": "a\0b"}}, "NUL", id="a user with NUL"),
    ],
)
def test_a_record_that_cannot_be_is_refused_and_nothing_written(write, listed, record, said):
    with pytest.raises(InvalidParameter, match=said):
        write({"inputs": {"good": 1}}, record)
    assert listed().items == []


def test_a_dataset_that_is_not_there(database):
    with database.writing() as session:
        evaluation_datasets.delete_dataset(session, "d-none")
        evaluation_datasets.delete_tag(session, "d-none", "key")
        for call in (
            lambda: evaluation_datasets.get_dataset(session, "a\0b"),
            lambda: evaluation_datasets.set_tags(session, "d-none", {"a": "b"}),
            lambda: evaluation_records.list_records(session, "d-none"),
            lambda: evaluation_records.write_records(session, "d-none", [], now_ms=NOW_MS),
            lambda: evaluation_records.delete_records(session, "d-none", ["a"], now_ms=NOW_MS),
        ):
            with pytest.raises(EvaluationDatasetNotFound):
                call()


def test_deleting_a_dataset_deletes_its_records(database, dataset_id, write, listed):
    write({"inputs": {"a": 1}})
    with database.writing() as session:
        evaluation_datasets.delete_dataset(session, dataset_id)
    with pytest.raises(EvaluationDatasetNotFound):
        listed()


def test_what_runs_used_is_listed_once_for_each_context(database, experiment_id):
    with database.writing() as session:
        for _ in range(2):
            run_id = runs.create_run(session, experiment_id, start_time_ms=NOW_MS).info.run_id
            used = Dataset(name="iris", digest="1a", source_type="local", source="iris.csv")
            uses = [DatasetInput(dataset=used, tags={"mlflow.data.context": "training"})]
            runs.log_inputs(session, run_id, datasets=uses)
    with database.reading() as session:
        found = run_inputs.search_datasets(session, [experiment_id])
    assert found == [DatasetSummary(experiment_id=experiment_id, name="iris", digest="1a", context="training")]
