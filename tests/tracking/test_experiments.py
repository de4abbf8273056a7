"""Experiments: names, stages, tags and how they are searched."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tracking import experiments, runs
from tracking.entities import LifecycleStage, ViewType
from tracking.errors import InvalidParameter
from tracking.experiments import (
    ExperimentAlreadyExists,
    ExperimentNameNotFound,
    ExperimentNotActive,
    ExperimentNotFound,
)
from tracking.filters import InvalidPageToken
from tracking.search_tokens import SearchSyntaxError


def create(database, name, *, now_ms=1, **others):
    with database.writing() as session:
        return experiments.create_experiment(session, name, now_ms=now_ms, **others)


def found(database, **search):
    with database.reading() as session:
        return [one.name for one in experiments.search_experiments(session, **search).items]


def test_an_experiment_has_a_number_and_a_place_of_its_own(database):
    experiment_id = create(database, "iris", tags={"team": "bees"}, now_ms=5)
    with database.reading() as session:
        experiment = experiments.get_experiment(session, experiment_id)
        assert experiments.get_experiment_by_name(session, "iris") == experiment
    assert experiment.experiment_id.isdigit()
    assert experiment.artifact_location == f"mlflow-artifacts:/{experiment_id}"
    assert (experiment.tags, experiment.created_ms, experiment.updated_ms) == ({"team": "bees"}, 5, 5)


def test_artifacts_go_under_the_configured_root_or_where_the_experiment_says(database):
    rooted = create(database, "a", artifact_root="s3://bucket/prefix/")
    placed = create(database, "b", artifact_location="s3://elsewhere/b/")
    with database.reading() as session:
        assert experiments.get_experiment(session, rooted).artifact_location == f"s3://bucket/prefix/{rooted}"
        assert experiments.get_experiment(session, placed).artifact_location == "s3://elsewhere/b"


def test_the_default_experiment_is_number_0_however_often_it_is_ensured(database):
    for now_ms in (1, 2):
        with database.writing() as session:
            experiments.ensure_default_experiment(session, now_ms=now_ms)
    with database.reading() as session:
        default = experiments.get_experiment(session, "0")
    assert (default.name, default.created_ms, default.artifact_location) == ("Default", 1, "mlflow-artifacts:/0")
    assert create(database, "next") != "0"


def test_a_taken_name_is_refused_even_while_deleted(database):
    experiment_id = create(database, "iris")
    with database.writing() as session:
        experiments.delete_experiment(session, experiment_id, now_ms=2)
    with pytest.raises(ExperimentAlreadyExists):
        create(database, "iris")
    assert create(database, "other") != experiment_id


def test_of_concurrent_creators_one_wins_and_the_others_are_told(database):
    def attempt(_):
        try:
            return create(database, "race")
        except ExperimentAlreadyExists:
            return None

    with ThreadPoolExecutor(6) as threads:
        ids = [one for one in threads.map(attempt, range(12)) if one]
    assert len(ids) == 1


def test_deleting_takes_the_runs_along_and_restoring_brings_them_back(database):
    experiment_id = create(database, "iris")
    with database.writing() as session:
        run_id = runs.create_run(session, experiment_id, start_time_ms=1).info.run_id
        experiments.delete_experiment(session, experiment_id, now_ms=2)
        assert runs.get_run(session, run_id).info.lifecycle_stage is LifecycleStage.DELETED
        with pytest.raises(ExperimentNotActive):
            runs.create_run(session, experiment_id, start_time_ms=1)
        with pytest.raises(ExperimentNotFound):
            experiments.delete_experiment(session, experiment_id, now_ms=3)
        experiments.restore_experiment(session, experiment_id, now_ms=4)
        assert runs.get_run(session, run_id).info.lifecycle_stage is LifecycleStage.ACTIVE
        assert experiments.get_experiment(session, experiment_id).updated_ms == 4


def test_renaming_to_a_taken_name_is_refused_and_changes_nothing(database):
    first, _ = create(database, "first"), create(database, "second")
    with database.writing() as session:
        with pytest.raises(ExperimentAlreadyExists):
            experiments.rename_experiment(session, first, "second", now_ms=2)
        experiments.rename_experiment(session, first, "third", now_ms=3)
    assert sorted(found(database)) == ["second", "third"]


def test_tags_are_set_overwritten_and_removed(database):
    experiment_id = create(database, "iris")
    with database.writing() as session:
        experiments.set_experiment_tag(session, experiment_id, "k", "1")
        experiments.set_experiment_tag(session, experiment_id, "k", "2")
        assert experiments.get_experiment(session, experiment_id).tags == {"k": "2"}
        with pytest.raises(InvalidParameter):
            experiments.set_experiment_tag(session, experiment_id, "k", "x" * 20_001)
        experiments.delete_experiment_tag(session, experiment_id, "k")
        with pytest.raises(experiments.ExperimentTagNotFound):
            experiments.delete_experiment_tag(session, experiment_id, "k")


@pytest.mark.parametrize("name", ["", "x" * 501, "a\0b", "a\ud800b"])
def test_a_name_that_cannot_be_kept_is_refused(database, name):
    with pytest.raises(InvalidParameter):
        create(database, name)
    assert found(database) == []


@pytest.mark.parametrize("location", ["s3://b/../c", "s3://b/%2e%2e/c", "x?y", "x#y", "a\0b", "x" * 1001])
def test_a_place_that_could_mean_another_is_refused(database, location):
    with pytest.raises(InvalidParameter):
        create(database, "iris", artifact_location=location)


def test_what_is_not_there_is_named(database):
    with database.reading() as session:
        for missing in ("77", "9" * 30):
            with pytest.raises(ExperimentNotFound):
                experiments.get_experiment(session, missing)
        for wrong in ("seven", "", "-1", "٣"):
            with pytest.raises(InvalidParameter):
                experiments.get_experiment(session, wrong)
        for missing in ("none", "a\0b", "\ud800"):
            with pytest.raises(ExperimentNameNotFound):
                experiments.get_experiment_by_name(session, missing)


@pytest.fixture
def three(database):
    ids = [
        create(database, name, now_ms=now_ms, tags={"kind": name[:1]}) for now_ms, name in enumerate(["a1", "b1", "a2"])
    ]
    with database.writing() as session:
        experiments.delete_experiment(session, ids[1], now_ms=9)
    return database


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ({}, ["a2", "a1"]),
        ({"view": ViewType.ALL}, ["a2", "b1", "a1"]),
        ({"view": ViewType.DELETED_ONLY}, ["b1"]),
        ({"filter_text": "name LIKE 'a%'", "order_by": ["name ASC"]}, ["a1", "a2"]),
        ({"filter_text": "tags.kind = 'b'", "view": ViewType.ALL}, ["b1"]),
        ({"filter_text": "tags.kind IS NULL"}, []),
        ({"filter_text": "creation_time >= 2"}, ["a2"]),
        ({"filter_text": "attribute.last_update_time < 1"}, ["a1"]),
        ({"order_by": ["tags.kind DESC", "name DESC"], "view": ViewType.ALL}, ["b1", "a2", "a1"]),
    ],
)
def test_experiments_are_searched(three, search, names):
    assert found(three, **search) == names


def test_pages_go_on_where_they_ended_although_experiments_are_added(three):
    with three.reading() as session:
        first = experiments.search_experiments(session, max_results=1)
    create(three, "newer", now_ms=100)
    with three.reading() as session:
        second = experiments.search_experiments(session, max_results=1, page_token=first.next_page_token)
    assert [one.name for one in first.items + second.items] == ["a2", "a1"]
    assert second.next_page_token is None


def test_a_token_is_good_only_for_its_own_search(three):
    with three.reading() as session:
        token = experiments.search_experiments(session, max_results=1).next_page_token
        for search in ({"filter_text": "name != 'x'"}, {"order_by": ["name"]}, {"view": ViewType.ALL}):
            with pytest.raises(InvalidPageToken):
                experiments.search_experiments(session, page_token=token, **search)


def test_a_search_outside_the_grammar_is_refused(three):
    with three.reading() as session:
        for search in ({"filter_text": "AND AND"}, {"filter_text": "metrics.a > 1"}, {"order_by": ["size"]}):
            with pytest.raises(SearchSyntaxError):
                experiments.search_experiments(session, **search)
        for size in (0, -1, 50_001):
            with pytest.raises(InvalidParameter):
                experiments.search_experiments(session, max_results=size)
