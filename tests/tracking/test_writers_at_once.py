"""What several writers at once may never leave behind."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracking import experiments, logged_models, run_search, runs
from tracking.entities import LifecycleStage, Metric, ViewType
from tracking.experiments import ExperimentNotActive

NOW_MS = 1_700_000_000_000


@pytest.fixture
def experiment_id(database):
    with database.writing() as session:
        return experiments.create_experiment(session, "iris", now_ms=NOW_MS)


@pytest.fixture
def run_id(database, experiment_id):
    with database.writing() as session:
        return runs.create_run(session, experiment_id, start_time_ms=NOW_MS).info.run_id


def test_a_run_that_begins_while_its_experiment_is_deleted_is_deleted_with_it_or_refused(database, experiment_id):
    def begin(_):
        try:
            with database.writing() as session:
                runs.create_run(session, experiment_id, start_time_ms=NOW_MS)
        except ExperimentNotActive:
            return "refused"
        return "begun"

    def end():
        with database.writing() as session:
            experiments.delete_experiment(session, experiment_id, now_ms=NOW_MS)

    with ThreadPoolExecutor(6) as threads:
        beginning = [threads.submit(begin, number) for number in range(10)]
        threads.submit(end).result()
        beginning += [threads.submit(begin, number) for number in range(10)]
        outcomes = [one.result() for one in beginning]
    with database.reading() as session:
        found = run_search.search_runs(session, [experiment_id], view=ViewType.ALL).items
    assert len(found) == outcomes.count("begun")
    assert {run.info.lifecycle_stage for run in found} <= {LifecycleStage.DELETED}


def test_models_recorded_at_once_are_all_in_the_history(database, run_id):
    def record(number):
        model = {"artifact_path": f"model-{number}", "flavors": {}, "utc_time_created": "now", "run_id": run_id}
        with database.writing() as session:
            runs.record_model(session, run_id, json.dumps(model))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(record, range(12)))
    with database.reading() as session:
        history = json.loads(runs.get_run(session, run_id).tags[runs.MODEL_HISTORY_TAG])
    assert sorted(model["artifact_path"] for model in history) == sorted(f"model-{number}" for number in range(12))


def test_versions_noted_at_once_are_all_on_the_logged_model(database, experiment_id):
    with database.writing() as session:
        model_id = logged_models.create_logged_model(session, experiment_id, now_ms=NOW_MS).model_id

    def note(version):
        with database.writing() as session:
            logged_models.note_version(session, model_id, "iris", version)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(note, [*range(1, 9), 1, 2]))
    with database.reading() as session:
        noted = json.loads(logged_models.get_logged_model(session, model_id).tags[logged_models.VERSIONS_TAG])
    assert sorted(one["version"] for one in noted) == list(range(1, 9))


def test_a_note_leaves_alone_what_somebody_else_wrote_into_its_tag(database, experiment_id):
    with database.writing() as session:
        model_id = logged_models.create_logged_model(
            session, experiment_id, tags={logged_models.VERSIONS_TAG: "mine"}, now_ms=NOW_MS
        ).model_id
        logged_models.note_version(session, model_id, "iris", 1)
        assert logged_models.get_logged_model(session, model_id).tags == {logged_models.VERSIONS_TAG: "mine"}


def test_a_batch_sent_again_changes_nothing(database, run_id):
    def send():
        with database.writing() as session:
            runs.log_batch(
                session,
                run_id,
                metrics=[Metric(key="loss", value=0.5, timestamp_ms=1, step=step) for step in range(3)],
                params=[("depth", "2")],
                tags=[("team", "bees")],
            )
        with database.reading() as session:
            return runs.get_run(session, run_id)

    assert send() == send()
