"""Runs: what is logged to them, on both databases, by one writer and by several at once."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracking import experiments, logged_models, metrics, runs
from tracking.entities import Dataset, DatasetInput, LifecycleStage, Metric, ModelOutput, RunStatus
from tracking.errors import InvalidParameter
from tracking.metrics import LoggedModelOfMetricNotFound
from tracking.runs import ParamChanged, RunNotActive, RunNotFound, RunTagNotFound

LARGEST = 1.7976931348623157e308


@pytest.fixture
def experiment_id(database):
    with database.writing() as session:
        return experiments.create_experiment(session, "iris", now_ms=1)


@pytest.fixture
def run_id(database, experiment_id):
    with database.writing() as session:
        return runs.create_run(session, experiment_id, start_time_ms=10).info.run_id


def point(key, value, *, step=0, timestamp_ms=1, **others):
    return Metric(key=key, value=value, step=step, timestamp_ms=timestamp_ms, **others)


def log(database, run_id, *points):
    with database.writing() as session:
        runs.log_batch(session, run_id, metrics=points)


def get(database, run_id):
    with database.reading() as session:
        return runs.get_run(session, run_id)


def history(database, run_id, key, **page):
    with database.reading() as session:
        return metrics.metric_history(session, run_id, key, **page)


def test_a_run_begins_with_a_name_and_a_place_of_its_own(database, experiment_id):
    with database.writing() as session:
        run = runs.create_run(session, experiment_id, start_time_ms=7, user_id="ada", tags={"k": "v"})
    info = run.info
    assert len(info.run_id) == 32
    assert info.artifact_uri == f"mlflow-artifacts:/{experiment_id}/{info.run_id}/artifacts"
    assert (info.status, info.start_time_ms, info.end_time_ms, info.user_id) == (RunStatus.RUNNING, 7, None, "ada")
    assert run.tags == {"k": "v", "mlflow.runName": info.name}
    assert info.name.count("-") == 2
    assert get(database, info.run_id) == run


def test_a_name_may_come_as_a_tag_but_not_differ_from_the_other_one(database, experiment_id):
    with database.writing() as session:
        named = runs.create_run(session, experiment_id, start_time_ms=1, tags={"mlflow.runName": "n"})
        assert named.info.name == "n"
        with pytest.raises(InvalidParameter, match="different values"):
            runs.create_run(session, experiment_id, start_time_ms=1, name="m", tags={"mlflow.runName": "n"})


def test_a_run_is_updated_in_what_is_given(database, run_id):
    with database.writing() as session:
        runs.update_run(session, run_id, status=RunStatus.FINISHED, end_time_ms=20)
        info = runs.update_run(session, run_id, name="renamed")
    assert (info.status, info.end_time_ms, info.name) == (RunStatus.FINISHED, 20, "renamed")
    assert get(database, run_id).tags == {"mlflow.runName": "renamed"}
    with database.writing() as session:
        runs.set_run_tag(session, run_id, "mlflow.runName", "again")
    assert get(database, run_id).info.name == "again"


def test_a_deleted_run_takes_nothing_until_it_is_restored(database, run_id):
    with database.writing() as session:
        runs.delete_run(session, run_id, now_ms=5)
        assert runs.get_run(session, run_id).info.lifecycle_stage is LifecycleStage.DELETED
        for write in (
            lambda: runs.log_metric(session, run_id, point("a", 1)),
            lambda: runs.log_param(session, run_id, "a", "1"),
            lambda: runs.set_run_tag(session, run_id, "a", "1"),
            lambda: runs.update_run(session, run_id, status=RunStatus.FAILED),
            lambda: runs.log_inputs(session, run_id),
        ):
            with pytest.raises(RunNotActive):
                write()
        runs.restore_run(session, run_id)
        runs.log_metric(session, run_id, point("a", 1))


@pytest.mark.parametrize("missing", ["0" * 32, "", "a\0b", "\ud800"])
def test_a_run_that_is_not_there_is_named(database, missing):
    with database.writing() as session:
        with pytest.raises(RunNotFound):
            runs.get_run(session, missing)
        with pytest.raises(RunNotFound):
            runs.log_metric(session, missing, point("a", 1))
        assert metrics.metric_history(session, missing, "a").items == []


def test_the_latest_metric_is_the_greatest_by_step_then_timestamp_then_value(database, run_id):
    for given in (
        point("m", 5, step=3, timestamp_ms=1),
        point("m", 9, step=2, timestamp_ms=99),
        point("m", 6, step=3, timestamp_ms=2),
        point("m", 4, step=3, timestamp_ms=2),
        point("m", 8, step=-1, timestamp_ms=500),
    ):
        log(database, run_id, given)
    assert get(database, run_id).metrics == (point("m", 6, step=3, timestamp_ms=2),)
    log(database, run_id, point("m", 1, step=4), point("m", 2, step=4), point("m", 0, step=3))
    assert get(database, run_id).metrics == (point("m", 2, step=4),)


def test_the_same_point_is_kept_once_however_often_it_is_logged(database, run_id):
    for _ in range(2):
        log(database, run_id, point("m", 1.5), point("m", 1.5), point("m", math.nan), point("m", math.nan))
        with database.writing() as session:
            runs.log_metric(session, run_id, point("m", 1.5))
    assert [str(one.value) for one in history(database, run_id, "m").items] == ["nan", "1.5"]


def test_nan_and_infinities_are_kept(database, run_id):
    log(database, run_id, point("nan", math.nan), point("high", math.inf), point("low", -math.inf), point("zero", 0.0))
    values = {one.key: one.value for one in get(database, run_id).metrics}
    assert math.isnan(values.pop("nan"))
    assert values == {"high": LARGEST, "low": -LARGEST, "zero": 0.0}


@pytest.mark.parametrize("points_max", [1, 2, 3, 100])
def test_a_history_read_in_steps_is_the_whole_one(database, run_id, points_max):
    values = (0.0, math.nan, -1.0, math.inf, 2.5)
    points = [Metric(key="loss", value=v, timestamp_ms=t, step=s) for t in (1, 2) for s in (0, 7) for v in values]
    with database.writing() as session:
        runs.log_batch(session, run_id, metrics=points)
    found, last = [], None
    with database.reading() as session:
        while some := metrics.history_after(session, run_id, "loss", last, points_max=points_max):
            found += some
            last = some[-1]
        whole = metrics.metric_history(session, run_id, "loss").items
    assert len(found) == len(points)
    assert list(map(str, found)) == list(map(str, whole))


def test_a_history_comes_in_order_and_in_pages_that_stay_right(database, run_id):
    log(database, run_id, *(point("m", step, step=step, timestamp_ms=100 - step) for step in range(10)))
    assert [one.step for one in history(database, run_id, "m").items] == list(range(9, -1, -1))
    first = history(database, run_id, "m", max_results=4)
    log(database, run_id, point("m", 0, timestamp_ms=1), point("m", math.nan, step=5, timestamp_ms=95))
    second = history(database, run_id, "m", max_results=4, page_token=first.next_page_token)
    third = history(database, run_id, "m", max_results=4, page_token=second.next_page_token)
    steps = [one.step for page in (first, second, third) for one in page.items]
    assert steps == [9, 8, 7, 6, 5, 5, 4, 3, 2, 1, 0]
    assert third.next_page_token is None


def test_a_param_is_set_once_and_the_same_value_again_is_fine(database, run_id):
    with database.writing() as session:
        runs.log_param(session, run_id, "depth", "3")
        runs.log_param(session, run_id, "depth", "3")
        with pytest.raises(ParamChanged, match=r"'3'.*'5'"):
            runs.log_param(session, run_id, "depth", "5")
    assert get(database, run_id).params == {"depth": "3"}


def test_long_values_are_cut_and_then_equal_to_themselves(database, run_id):
    for _ in range(2):
        with database.writing() as session:
            runs.log_param(session, run_id, "p", "x" * 6001)
            runs.set_run_tag(session, run_id, "t", "ü" * 9000)
    run = get(database, run_id)
    assert (len(run.params["p"]), len(run.tags["t"])) == (6000, 8000)


def test_a_batch_is_written_whole_or_not_at_all(database, run_id):
    with database.writing() as session:
        runs.log_param(session, run_id, "depth", "3")
    with pytest.raises(ParamChanged), database.writing() as session:
        runs.log_batch(
            session, run_id, metrics=[point("m", 1)], params=[("other", "1"), ("depth", "4")], tags=[("t", "1")]
        )
    run = get(database, run_id)
    assert (run.metrics, run.params, "t" in run.tags) == ((), {"depth": "3"}, False)


def test_a_repeated_batch_changes_nothing(database, run_id):
    batch = {"metrics": [point("m", 1), point("n", 2)], "params": [("p", "1")], "tags": [("t", "1"), ("t", "2")]}
    for _ in range(2):
        with database.writing() as session:
            runs.log_batch(session, run_id, **batch)
    run = get(database, run_id)
    assert [one.key for one in run.metrics] == ["m", "n"]
    assert (run.params, run.tags["t"]) == ({"p": "1"}, "2")


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param({"metrics": [point("m", 1)] * 1001}, id="metrics"),
        pytest.param({"params": [(f"p{n}", "1") for n in range(101)]}, id="params"),
        pytest.param({"tags": [(f"t{n}", "1") for n in range(101)]}, id="tags"),
        pytest.param({"metrics": [point("m", 1)] * 990, "tags": [(f"t{n}", "1") for n in range(11)]}, id="in all"),
        pytest.param({"params": [("p", "1"), ("p", "1")]}, id="a param twice"),
        pytest.param({"params": [("p", "a\0b")]}, id="NUL"),
        pytest.param({"tags": [("t", "\ud800")]}, id="lone surrogate"),
        pytest.param({"metrics": [point("../m", 1)]}, id="a path"),
        pytest.param({"metrics": [point("m#", 1)]}, id="a sign"),
        pytest.param({"metrics": [point("", 1)]}, id="no name"),
        pytest.param({"metrics": [point("m\n", 1)]}, id="a newline"),
        pytest.param({"metrics": [point("m" * 251, 1)]}, id="a long name"),
        pytest.param({"metrics": [point("m", 1, timestamp_ms=-1)]}, id="a time before time"),
        pytest.param({"metrics": [point("good", 1), point("m", 1, dataset_name="a\0b")]}, id="dataset"),
    ],
)
def test_a_batch_over_the_limits_is_refused_whole(database, run_id, batch):
    before = get(database, run_id)
    with pytest.raises(InvalidParameter), database.writing() as session:
        runs.log_batch(session, run_id, **batch)
    assert get(database, run_id) == before


def test_a_tag_is_overwritten_and_removed(database, run_id):
    with database.writing() as session:
        runs.set_run_tag(session, run_id, "a/b: c.d-e", "1")
        runs.set_run_tag(session, run_id, "a/b: c.d-e", "")
        assert runs.get_run(session, run_id).tags["a/b: c.d-e"] == ""
        runs.delete_run_tag(session, run_id, "a/b: c.d-e")
        with pytest.raises(RunTagNotFound):
            runs.delete_run_tag(session, run_id, "a/b: c.d-e")


def test_datasets_and_models_are_linked_once(database, experiment_id, run_id):
    train = DatasetInput(
        dataset=Dataset(name="iris", digest="abc", source_type="local", source="{}", schema="{}", profile=None),
        tags={"mlflow.data.context": "training"},
    )
    test = DatasetInput(dataset=Dataset(name="iris", digest="def", source_type="local", source="{}"))
    for _ in range(2):
        with database.writing() as session:
            runs.log_inputs(session, run_id, datasets=[train, test], model_ids=["m-1"])
            runs.log_outputs(session, run_id, [ModelOutput(model_id="m-2", step=3)])
    run = get(database, run_id)
    assert run.dataset_inputs == (train, test)
    assert run.model_inputs == ("m-1",)
    assert run.model_outputs == (ModelOutput(model_id="m-2", step=3),)
    with database.writing() as session:
        other = runs.create_run(session, experiment_id, start_time_ms=1).info.run_id
        runs.log_inputs(session, other, datasets=[train])
    assert get(database, other).dataset_inputs == (train,)


@pytest.mark.parametrize("field", [{"name": "x" * 501}, {"digest": "x" * 37}, {"source": "x" * 65_536}, {"name": ""}])
def test_a_dataset_over_the_limits_is_refused_and_one_within_is_kept(database, run_id, field):
    within = {name: value[:-1] or "x" for name, value in field.items()}
    for given in (field, within):
        dataset = Dataset(**{"name": "iris", "digest": "abc", "source_type": "local", "source": "{}", **given})
        if given is field:
            with pytest.raises(InvalidParameter), database.writing() as session:
                runs.log_inputs(session, run_id, datasets=[DatasetInput(dataset=dataset)])
            assert get(database, run_id).dataset_inputs == ()
        else:
            with database.writing() as session:
                runs.log_inputs(session, run_id, datasets=[DatasetInput(dataset=dataset)])
            assert [one.dataset for one in get(database, run_id).dataset_inputs] == [dataset]


def test_a_page_of_a_history_holds_25_000_points_at_most(database, run_id):
    for start in range(0, 26_000, 1_000):
        log(database, run_id, *(point("m", 0, step=step) for step in range(start, start + 1_000)))
    page = history(database, run_id, "m", max_results=50_000)
    rest = history(database, run_id, "m", max_results=50_000, page_token=page.next_page_token)
    assert (len(page.items), len(rest.items), rest.next_page_token) == (25_000, 1_000, None)


def test_metrics_about_a_logged_model_are_its_own_too(database, experiment_id, run_id):
    with database.writing() as session:
        model_id = logged_models.create_logged_model(session, experiment_id, now_ms=1).model_id
        on_test = point("m", 1, model_id=model_id, dataset_name="iris", dataset_digest="abc")
        runs.log_batch(session, run_id, metrics=[on_test, point("plain", 2)])
        runs.log_metric(session, run_id, on_test)
        measured = logged_models.get_logged_model(session, model_id).metrics
    assert [(one.key, one.dataset_name, one.run_id) for one in measured] == [("m", "iris", run_id)]
    assert [one.key for one in get(database, run_id).metrics] == ["m", "plain"]
    with pytest.raises(LoggedModelOfMetricNotFound), database.writing() as session:
        runs.log_batch(session, run_id, metrics=[point("x", 1, model_id="m-none")])
    assert "x" not in {one.key for one in get(database, run_id).metrics}


def test_concurrent_writers_agree_on_the_latest_metric(database, run_id):
    def write(worker):
        for step in range(5):
            keys = ["a", "b", "c"] if worker % 2 else ["c", "b", "a"]
            log(database, run_id, *(point(key, worker, step=step, timestamp_ms=worker) for key in keys))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    assert get(database, run_id).metrics == tuple(point(key, 5, step=4, timestamp_ms=5) for key in "abc")
    assert len(history(database, run_id, "a").items) == 30


def test_of_concurrent_values_of_a_param_one_wins_and_the_others_are_told(database, run_id):
    def write(worker):
        try:
            with database.writing() as session:
                runs.log_param(session, run_id, "p", str(worker))
        except ParamChanged:
            return None
        return str(worker)

    with ThreadPoolExecutor(6) as threads:
        winners = [one for one in threads.map(write, range(6)) if one is not None]
    assert [get(database, run_id).params["p"]] == winners
