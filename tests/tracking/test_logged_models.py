"""Logged models: how they come to be, what belongs to them, and how they are found."""

import math

import pytest

from tracking import experiments, logged_models, runs
from tracking.entities import LoggedModelStatus, Metric
from tracking.errors import InvalidParameter
from tracking.experiments import ExperimentNotFound
from tracking.filters import InvalidPageToken
from tracking.logged_models import (
    DatasetFilter,
    LoggedModelNotFound,
    LoggedModelParamChanged,
    LoggedModelTagNotFound,
    ModelOrdering,
)
from tracking.search_tokens import SearchSyntaxError


@pytest.fixture
def experiment_id(database):
    with database.writing() as session:
        return experiments.create_experiment(session, "iris", now_ms=1)


def create(database, experiment_id, **others):
    with database.writing() as session:
        return logged_models.create_logged_model(session, experiment_id, **{"now_ms": 1, **others})


def test_a_model_is_pending_until_its_upload_has_ended(database, experiment_id):
    model = create(database, experiment_id, name="forest", params={"n": "1"}, tags={"a": "b"}, now_ms=5)
    assert model.artifact_uri == f"mlflow-artifacts:/{experiment_id}/models/{model.model_id}/artifacts"
    assert (model.status, model.params, model.tags) == (LoggedModelStatus.PENDING, {"n": "1"}, {"a": "b"})
    with database.writing() as session:
        ready = logged_models.finalize_logged_model(session, model.model_id, LoggedModelStatus.READY, now_ms=9)
        assert logged_models.get_logged_model(session, model.model_id) == ready
    assert (ready.status, ready.created_ms, ready.updated_ms) == (LoggedModelStatus.READY, 5, 9)


def test_a_model_without_a_name_gets_a_friendly_one(database, experiment_id):
    assert create(database, experiment_id).name.count("-") == 2


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a.b", "50%", "a'b", "a\0b", "x" * 501])
def test_a_name_that_a_uri_could_not_hold_is_refused(database, experiment_id, name):
    with pytest.raises(InvalidParameter):
        create(database, experiment_id, name=name)
    with pytest.raises(ExperimentNotFound):
        create(database, "77")


def test_params_are_set_once_and_tags_as_often_as_wanted(database, experiment_id):
    model_id = create(database, experiment_id, params={"n": "1"}).model_id
    with database.writing() as session:
        logged_models.log_model_params(session, model_id, {"n": "1", "m": "2"})
        logged_models.set_model_tags(session, model_id, {"a": "1"}, now_ms=2)
        model = logged_models.set_model_tags(session, model_id, {"a": "2"}, now_ms=3)
        assert (model.params, model.tags, model.updated_ms) == ({"m": "2", "n": "1"}, {"a": "2"}, 3)
        logged_models.delete_model_tag(session, model_id, "a", now_ms=4)
        for missing in ("a", "a\0b"):
            with pytest.raises(LoggedModelTagNotFound):
                logged_models.delete_model_tag(session, model_id, missing, now_ms=5)
    with pytest.raises(LoggedModelParamChanged), database.writing() as session:
        logged_models.log_model_params(session, model_id, {"x": "1", "n": "3"})
    with database.reading() as session:
        assert "x" not in logged_models.get_logged_model(session, model_id).params


def test_a_deleted_model_is_found_only_when_asked_for(database, experiment_id):
    model_id = create(database, experiment_id).model_id
    with database.writing() as session:
        logged_models.delete_logged_model(session, model_id, now_ms=2)
        assert logged_models.get_logged_model(session, model_id, allow_deleted=True).updated_ms == 2
        assert logged_models.search_logged_models(session, [experiment_id]).items == []
        for missing in (model_id, "m-none", "\0"):
            with pytest.raises(LoggedModelNotFound):
                logged_models.get_logged_model(session, missing)


@pytest.fixture
def measured(database, experiment_id):
    """Four models, a to d; accuracies on two datasets, one of them NaN, and none for d."""
    with database.writing() as session:
        run_id = runs.create_run(session, experiment_id, start_time_ms=1).info.run_id
        for number, (name, on_test, on_train) in enumerate(
            [("a", 0.5, 0.9), ("b", 0.7, 0.8), ("c", math.nan, 0.7), ("d", None, None)]
        ):
            model_id = logged_models.create_logged_model(
                session, experiment_id, name=name, params={"n": str(number)}, tags={"even": "no"} if number % 2 else {},
                source_run_id=run_id, now_ms=number,
            ).model_id  # fmt: skip
            points = [
                Metric(
                    key="acc", value=value, timestamp_ms=when, model_id=model_id, dataset_name=name, dataset_digest="1"
                )
                for when, name, value in [(1, "test", on_test), (2, "train", on_train)]
                if value is not None
            ]
            runs.log_batch(session, run_id, metrics=points)
    return run_id


TRAIN, TEST = DatasetFilter(name="train"), DatasetFilter(name="test", digest="1")


def test_models_are_searched(database, experiment_id, measured):
    def names(**others):
        with database.reading() as session:
            found = logged_models.search_logged_models(session, [experiment_id], **others)
        return "".join(one.name for one in found.items)

    assert names() == "dcba"
    assert names(filter_text=f"source_run_id = '{measured}' AND name IN ('a', 'b')") == "ba"
    assert names(filter_text="attributes.`creation_time` >= 1 AND params.n != '2'") == "db"
    assert names(filter_text="tags.even IS NULL AND status = 'LOGGED_MODEL_PENDING'") == "ca"
    assert names(filter_text="metrics.acc > 0.6") == "cba"
    assert names(filter_text="metrics.acc > 0.6", datasets=[TEST]) == "b"
    assert names(datasets=[TEST, TRAIN]) == "cba"
    by_test = ModelOrdering(field="metrics.acc", ascending=False, dataset_name="test")
    by_latest = ModelOrdering(field="metrics.acc", ascending=True)
    assert names(order_by=[by_test]) == "badc"
    assert names(order_by=[by_latest]) == "cbad"
    assert names(order_by=[ModelOrdering(field="name")]) == "abcd"
    for wrong in ("params.n", "size", "metrics."):
        with pytest.raises(InvalidParameter):
            names(order_by=[ModelOrdering(field=wrong)])
    with pytest.raises(SearchSyntaxError):
        names(filter_text="metrics.acc >")


def test_models_come_in_pages(database, experiment_id, measured):
    by_test = [ModelOrdering(field="metrics.acc", dataset_name="test")]
    found, token = [], None
    with database.reading() as session:
        while True:
            page = logged_models.search_logged_models(
                session, [experiment_id], order_by=by_test, max_results=1, page_token=token
            )
            found += [one.name for one in page.items]
            if page.next_page_token is None:
                break
            token = page.next_page_token
        with pytest.raises(InvalidPageToken):
            logged_models.search_logged_models(session, [experiment_id], page_token=token)
    assert found == ["a", "b", "d", "c"]


@pytest.mark.parametrize("order_by", [(), (ModelOrdering(field="name"),), (ModelOrdering(field="metrics.acc"),)])
def test_pages_show_each_model_once_while_others_are_made(database, experiment_id, measured, order_by):
    def page_of(**others):
        with database.reading() as session:
            return logged_models.search_logged_models(session, [experiment_id], order_by=order_by, **others)

    before = [one.name for one in page_of().items]
    shown, token = [], None
    for number in range(20):
        page = page_of(max_results=1, page_token=token)
        shown += [one.name for one in page.items]
        token = page.next_page_token
        if token is None:
            break
        if number < 3:
            create(database, experiment_id, name=f"0-{number}", now_ms=100 + number)
            create(database, experiment_id, name=f"z-{number}", now_ms=0)
    assert token is None
    assert len(shown) == len(set(shown))
    assert [one for one in shown if one in before] == before
