"""What of the experiments the caller of a session sees and may change."""

import json

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tracking import evaluation_datasets, logged_models, runs
from tracking.access import narrowing
from tracking.access.caller import LOCAL, Caller, set_caller
from tracking.access.grants import Grant, Scope, scope_of
from tracking.access.narrowing import NotGranted
from tracking.access.permissions import Permission
from tracking.artifact_owners import may_change, may_read, shown_in
from tracking.artifact_paths import PREDICTIONS, ArtifactPath
from tracking.artifact_stores import open_store
from tracking.entities import Metric, ModelOutput
from tracking.experiments import (
    ExperimentNotFound,
    create_experiment,
    get_experiment,
    rename_experiment,
    search_experiments,
)
from tracking.schema import ExperimentRow, RunRow

NAMES = ("a", "a%", "a_b", "A", "a-b", "ab", "ä", "ä𝒷", "a\\b")


def caller(*grants: str) -> Caller:
    held = [Grant.parse(grant) for grant in grants]
    return Caller("ann", scope_of(held, Permission.TRACKING_WRITE), scope_of(held, Permission.TRACKING_READ))


@pytest.fixture
def session(database):
    with database.writing() as session:
        for name in NAMES:
            create_experiment(session, name, now_ms=1)
        yield session


@pytest.mark.parametrize(
    ("grant", "seen"),
    [
        ("a", {"a"}),
        ("a*", {"a", "a%", "a_b", "a-b", "ab", "a\\b"}),
        ("a_*", {"a_b"}),
        ("a%*", {"a%"}),
        ("A*", {"A"}),
        ("ä*", {"ä", "ä𝒷"}),
        ("a\\*", {"a\\b"}),
        ("b*", set()),
    ],
)
def test_names_are_compared_sign_by_sign_on_both_databases(session, grant, seen):
    set_caller(session, caller(f"viewer:experiment:{grant}"))
    assert {one.name for one in search_experiments(session).items} == seen
    set_caller(session, caller(f"publisher:experiment:{grant}"))
    changeable = [
        int(one.experiment_id)
        for one in search_experiments(session).items
        if narrowing.may_change(session, [int(one.experiment_id)])
    ]
    assert len(changeable) == len(seen)


def test_whoever_is_granted_everything_costs_no_question():
    # Of no database, so that each would fail.
    session, store = Session(), open_store("nowhere")
    set_caller(session, LOCAL)
    statement, path = select(RunRow.run_id), ArtifactPath.parse("1/run/artifacts/model")
    assert narrowing.narrowed(session, statement, RunRow.experiment_id) is statement
    assert narrowing.in_sight(session, RunRow.experiment_id) == []
    assert narrowing.runs_in_sight(session, RunRow.run_id) == []
    assert narrowing.no_hidden_model(session, RunRow.run_id) == []
    assert narrowing.seen_runs(session, ["r"]) == ["r"]
    assert narrowing.may_change(session, [1])
    narrowing.ensure_may_name(session, "new")
    assert may_read(session, store, path)
    assert may_change(session, store, path)
    assert shown_in(session, store, None)("anything")


def test_who_reads_everything_may_still_change_only_what_is_granted(session):
    scope = caller("publisher:experiment:a").acting
    set_caller(session, Caller("ann", acting=scope))
    number = search_experiments(session, filter_text="name = 'ab'").items[0].experiment_id
    with pytest.raises(NotGranted, match=f"change the experiment {number}"):
        rename_experiment(session, number, "a", now_ms=1)


def test_what_is_granted_is_locked_and_changed_on_both_databases(session):
    numbers = dict(session.execute(select(ExperimentRow.name, ExperimentRow.experiment_id)).all())
    own, other = str(numbers["ab"]), str(numbers["a"])
    set_caller(session, caller("publisher:experiment:ab", "viewer:experiment:a-*"))
    run_id = runs.create_run(session, own, start_time_ms=1).info.run_id
    model = logged_models.create_logged_model(session, own, now_ms=1)
    point = Metric(key="loss", value=1.0, timestamp_ms=1, step=1, model_id=model.model_id)
    runs.log_batch(session, run_id, metrics=[point], tags=[("k", "v")])
    runs.log_outputs(session, run_id, [ModelOutput(model_id=model.model_id, step=1)])
    described = {"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": run_id}
    runs.record_model(session, run_id, json.dumps(described))
    dataset = evaluation_datasets.create_dataset(session, "d", now_ms=1, experiment_ids=[own])
    evaluation_datasets.set_tags(session, dataset.dataset_id, {"k": "v"})
    assert runs.get_run(session, run_id).model_outputs == (ModelOutput(model_id=model.model_id, step=1),)
    assert logged_models.get_logged_model(session, model.model_id).metrics[0].run_id == run_id
    with pytest.raises(ExperimentNotFound):
        runs.create_run(session, other, start_time_ms=1)
    with pytest.raises(NotGranted):
        runs.create_run(session, str(numbers["a-b"]), start_time_ms=1)


def test_a_hidden_experiment_is_none(session):
    number = session.scalar(select(ExperimentRow.experiment_id).where(ExperimentRow.name == "ab"))
    set_caller(session, caller("publisher:experiment:a", "publisher:model:ab"))
    with pytest.raises(ExperimentNotFound):
        get_experiment(session, str(number))
    set_caller(session, Caller("ann", Scope(caller().acting.models, caller().acting.experiments)))
    with pytest.raises(NotGranted):
        create_experiment(session, "new", now_ms=1)


@pytest.mark.parametrize(
    "location", ["mlflow-artifacts:/x/y", "mlflow-artifacts://host:80/x/y", "STORE/x/y", "file://STORE/x/y"]
)
def test_however_its_place_is_written_a_path_is_of_the_experiment_that_lies_there(session, tmp_path, location):
    store = open_store(str(tmp_path))
    place = location.replace("STORE", str(tmp_path))
    create_experiment(session, "placed", now_ms=1, artifact_location=place)
    create_experiment(session, "around", now_ms=1, artifact_location="mlflow-artifacts:/x")
    create_experiment(session, "elsewhere", now_ms=1, artifact_location="dbfs:/x/y")
    inner, outer = ArtifactPath.parse("x/y/run/file"), ArtifactPath.parse("x/z")
    set_caller(session, caller("publisher:experiment:placed"))
    assert (may_read(session, store, inner), may_read(session, store, outer)) == (True, False)
    assert shown_in(session, store, None)("x")
    set_caller(session, caller("publisher:experiment:around"))
    assert (may_read(session, store, inner), may_read(session, store, outer)) == (False, True)
    # Whoever deletes a folder deletes all that is in it.
    assert may_change(session, store, outer)
    assert not may_change(session, store, ArtifactPath.parse("x"))
    assert not may_read(session, store, ArtifactPath.parse("1/run"))


def test_a_place_of_several_experiments_takes_a_grant_for_all_of_them(session, tmp_path):
    store, path = open_store(str(tmp_path)), ArtifactPath.parse("shared/run/file")
    for name in ("one", "two"):
        create_experiment(session, name, now_ms=1, artifact_location="mlflow-artifacts:/shared")
    set_caller(session, caller("publisher:experiment:one"))
    assert not may_read(session, store, path)
    set_caller(session, caller("publisher:experiment:one", "publisher:experiment:two"))
    assert may_read(session, store, path)


@pytest.mark.parametrize("place", [PREDICTIONS, f"{PREDICTIONS}/an-endpoint"])
def test_what_is_kept_of_predictions_is_no_experiments_whatever_one_says_its_place_is(session, tmp_path, place):
    store, path = (
        open_store(str(tmp_path)),
        ArtifactPath.parse(f"{PREDICTIONS}/an-endpoint/date=2026-11-23/some.parquet"),
    )
    create_experiment(session, "sly", now_ms=1, artifact_location=f"mlflow-artifacts:/{place}")
    set_caller(session, caller("publisher:experiment:sly"))
    assert not may_read(session, store, path)
    assert not may_change(session, store, path)
    assert not shown_in(session, store, ArtifactPath.parse(f"{PREDICTIONS}/an-endpoint"))("date=2026-11-23")


def test_a_number_is_a_place_only_as_it_is_written(session, tmp_path):
    store = open_store(str(tmp_path))
    number = session.scalar(select(ExperimentRow.experiment_id).where(ExperimentRow.name == "a"))
    set_caller(session, caller("viewer:experiment:a"))
    assert may_read(session, store, ArtifactPath.parse(f"{number}/run"))
    assert not may_read(session, store, ArtifactPath.parse(f"0{number}/run"))
    assert not may_read(session, store, ArtifactPath.parse(f"{number}0/run"))
