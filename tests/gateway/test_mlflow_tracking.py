"""The tracking API as the stock MLflow client uses it, and what it says to requests that no client sends."""

import json
import math
from collections.abc import Iterator

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

API = "/api/2.0/mlflow"
LARGEST = 1.7976931348623157e308


@pytest.fixture
def client(api_server, monkeypatch) -> MlflowClient:
    # A client retries what a server may mend; here that would only make a failing test slow.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return MlflowClient(tracking_uri=api_server)


@pytest.fixture
def wire(api_server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api_server) as client:
        yield client


def refused(call, code):
    with pytest.raises(MlflowException) as error:
        call()
    assert error.value.error_code == code
    return error.value.message


def test_an_experiment_lives_dies_and_comes_back(client):
    experiment_id = client.create_experiment("iris", tags={"team": "bees"})
    client.set_experiment_tag(experiment_id, "stage", "1")
    experiment = client.get_experiment_by_name("iris")
    assert (experiment.experiment_id, experiment.tags) == (experiment_id, {"team": "bees", "stage": "1"})
    assert experiment.artifact_location == f"mlflow-artifacts:/{experiment_id}"
    assert experiment.creation_time > 1_500_000_000_000
    client.delete_experiment_tag(experiment_id, "team")
    client.rename_experiment(experiment_id, "irises")
    client.delete_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    assert [one.name for one in client.search_experiments(view_type=ViewType.DELETED_ONLY)] == ["irises"]
    client.restore_experiment(experiment_id)
    assert client.get_experiment(experiment_id).tags == {"stage": "1"}
    assert [one.name for one in client.search_experiments(filter_string="name ILIKE 'IRIS%'")] == ["irises"]


def test_the_default_experiment_is_there_from_the_start(client):
    assert client.get_experiment("0").name == "Default"
    assert client.get_experiment_by_name("nothing") is None


def test_experiments_are_refused_in_mlflows_codes(client):
    client.create_experiment("iris")
    refused(lambda: client.create_experiment("iris"), "RESOURCE_ALREADY_EXISTS")
    refused(lambda: client.get_experiment("77"), "RESOURCE_DOES_NOT_EXIST")
    refused(lambda: client.get_experiment("seven"), "INVALID_PARAMETER_VALUE")
    refused(lambda: client.delete_experiment("77"), "RESOURCE_DOES_NOT_EXIST")
    refused(lambda: client.search_experiments(filter_string="AND AND"), "INVALID_PARAMETER_VALUE")


def test_the_fluent_client_logs_a_run(api_server, client):
    mlflow.set_tracking_uri(api_server)
    mlflow.set_experiment("fluent")
    with mlflow.start_run(run_name="first", tags={"a": "1"}) as started:
        mlflow.log_params({"depth": 3, "name": "x" * 7000})
        mlflow.log_metrics({"loss": 0.5, "accuracy": 0.9}, step=2)
        mlflow.log_metric("loss", 0.4, step=3)
        mlflow.set_tag("b", "2")
        with mlflow.start_run(nested=True) as child:
            mlflow.log_metric("loss", 9)
    run = client.get_run(started.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert run.info.artifact_uri == f"mlflow-artifacts:/{run.info.experiment_id}/{run.info.run_id}/artifacts"
    assert run.data.params["depth"] == "3"
    assert len(run.data.params["name"]) == 6000
    assert run.data.metrics == {"loss": 0.4, "accuracy": 0.9}
    assert (run.data.tags["a"], run.data.tags["b"], run.data.tags["mlflow.runName"]) == ("1", "2", "first")
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == started.info.run_id
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")] == [(2, 0.5), (3, 0.4)]
    found = mlflow.search_runs(experiment_names=["fluent"], filter_string="metrics.loss < 1", output_format="list")
    assert [one.info.run_id for one in found] == [run.info.run_id]


def test_numbers_that_json_lacks_come_back(client):
    run_id = client.create_run("0").info.run_id
    for value in (math.nan, math.inf, -math.inf):
        client.log_metric(run_id, "m", value, step=1, timestamp=5)
        client.log_batch(run_id, metrics=[Metric("batch", value, 5, 1)])
    assert client.get_run(run_id).data.metrics["m"] == LARGEST
    for key in ("m", "batch"):
        values = [one.value for one in client.get_metric_history(run_id, key)]
        assert [str(value) for value in values] == [str(-LARGEST), "nan", str(LARGEST)]


def test_a_batch_is_logged_and_refused_whole(client):
    run_id = client.create_run("0", start_time=123).info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(f"m{number}", number, 1, 0) for number in range(500)],
        params=[Param("p", "1")],
        tags=[RunTag("t", "1"), RunTag("mlflow.runName", "renamed")],
    )
    run = client.get_run(run_id)
    assert (len(run.data.metrics), run.data.params, run.info.run_name) == (500, {"p": "1"}, "renamed")
    assert run.info.start_time == 123
    said = refused(
        lambda: client.log_batch(run_id, metrics=[Metric("new", 1, 1, 0)], params=[Param("p", "2")]),
        "INVALID_PARAMETER_VALUE",
    )
    assert "Changing param values is not allowed" in said
    assert "new" not in client.get_run(run_id).data.metrics


def test_a_deleted_run_is_refused_until_restored(client):
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    assert "must be in the 'active' state" in refused(
        lambda: client.log_metric(run_id, "m", 1), "INVALID_PARAMETER_VALUE"
    )
    assert client.search_runs(["0"]) == []
    assert len(client.search_runs(["0"], run_view_type=ViewType.ALL)) == 1
    client.restore_run(run_id)
    client.set_tag(run_id, "k", "v")
    client.delete_tag(run_id, "k")
    refused(lambda: client.delete_tag(run_id, "k"), "RESOURCE_DOES_NOT_EXIST")
    client.update_run(run_id, status="KILLED", name="n")
    client.set_terminated(run_id, "FAILED", end_time=77)
    info = client.get_run(run_id).info
    assert (info.status, info.run_name, info.end_time) == ("FAILED", "n", 77)
    refused(lambda: client.get_run("0" * 32), "RESOURCE_DOES_NOT_EXIST")


def test_runs_are_searched_in_pages(client):
    ids = []
    for number in range(5):
        # The client reads a start time of 0 as none.
        run_id = client.create_run("0", start_time=number + 1).info.run_id
        client.log_batch(run_id, metrics=[Metric("m", number % 3, 1, 0)], params=[Param("n", str(number))])
        ids.append(run_id)
    first = client.search_runs(["0"], order_by=["metrics.m DESC"], max_results=2)
    second = client.search_runs(["0"], order_by=["metrics.m DESC"], max_results=3, page_token=first.token)
    assert [run.info.run_id for run in [*first, *second]] == [ids[place] for place in (2, 4, 1, 3, 0)]
    assert not second.token
    found = client.search_runs(["0"], "metrics.m > 0 AND params.n IN ('1', '2', '3') AND attributes.start_time < 3")
    assert [run.info.run_id for run in found] == [ids[1]]
    refused(lambda: client.search_runs(["0"], page_token="x"), "INVALID_PARAMETER_VALUE")
    refused(lambda: client.search_runs(["0"], max_results=50_001), "INVALID_PARAMETER_VALUE")


def test_a_history_is_given_in_pages(client, wire):
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, metrics=[Metric("m", step, step, step) for step in range(5)])
    asked = {"run_id": run_id, "run_uuid": run_id, "metric_key": "m", "max_results": 3}
    first = wire.get(f"{API}/metrics/get-history", params=asked).json()
    rest = wire.get(f"{API}/metrics/get-history", params=asked | {"page_token": first["next_page_token"]}).json()
    assert [one["step"] for one in first["metrics"] + rest["metrics"]] == [0, 1, 2, 3, 4]
    assert "next_page_token" not in rest
    assert wire.get(f"{API}/metrics/get-history", params=asked | {"metric_key": "none"}).json() == {"metrics": []}


def test_datasets_and_models_are_linked_to_a_run(client):
    run_id = client.create_run("0").info.run_id
    dataset = Dataset(name="iris", digest="abc", source_type="local", source="{}", schema="{}", profile="{}")
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_outputs(run_id, [LoggedModelOutput("m-1", 4)])
    run = client.get_run(run_id)
    given = run.inputs.dataset_inputs[0]
    assert (given.dataset.to_dictionary(), given.tags[0].value) == (dataset.to_dictionary(), "training")
    assert [(one.model_id, one.step) for one in run.outputs.model_outputs] == [("m-1", 4)]
    for text in ("dataset.name = 'iris'", "datasets.digest LIKE 'a%'", "dataset.context = 'training'"):
        assert len(client.search_runs(["0"], text)) == 1
    assert client.search_runs(["0"], "dataset.context = 'eval'") == []


def test_a_logged_model_goes_its_way(client):
    run_id = client.create_run("0").info.run_id
    model = client.create_logged_model("0", name="forest", source_run_id=run_id, params={"n": "1"}, tags={"a": "b"})
    assert model.model_id.startswith("m-")
    assert (len(model.model_id), str(model.status)) == (34, "PENDING")
    assert model.artifact_location == f"mlflow-artifacts:/0/models/{model.model_id}/artifacts"
    client.log_model_params(model.model_id, {"m": "2"})
    client.set_logged_model_tags(model.model_id, {"c": "d", "a": "e"})
    client.delete_logged_model_tag(model.model_id, "c")
    client.finalize_logged_model(model.model_id, "READY")
    client.log_metric(run_id, "acc", 0.5, model_id=model.model_id, dataset_name="iris", dataset_digest="abc")
    known = client.get_logged_model(model.model_id)
    assert (known.params, known.tags, str(known.status)) == ({"n": "1", "m": "2"}, {"a": "e"}, "READY")
    assert [(one.key, one.dataset_name) for one in known.metrics] == [("acc", "iris")]
    client.delete_logged_model(model.model_id)
    refused(lambda: client.get_logged_model(model.model_id), "RESOURCE_DOES_NOT_EXIST")
    assert client.search_logged_models(["0"]) == []


def test_logged_models_are_searched(client):
    run_id = client.create_run("0").info.run_id
    ids = []
    for number, name in enumerate(["a", "b", "c"]):
        model_id = client.create_logged_model("0", name=name, params={"n": str(number)}).model_id
        if name != "c":
            client.log_metric(run_id, "acc", number, model_id=model_id, dataset_name=name, dataset_digest="d")
        ids.append(model_id)

    def names(**search):
        return "".join(one.name for one in client.search_logged_models(["0"], **search))

    assert names(order_by=[{"field_name": "metrics.acc", "ascending": False}]) == "bac"
    assert names(order_by=[{"field_name": "name"}]) == "abc"
    assert names(filter_string="params.n = '2'") == "c"
    assert names(filter_string=f"source_run_id = '{run_id}' AND name = 'a'") == ""
    assert names(filter_string="metrics.acc >= 0", datasets=[{"dataset_name": "b"}]) == "b"
    assert names(datasets=[{"dataset_name": "a"}]) == "a"
    page = client.search_logged_models(["0"], max_results=2, order_by=[{"field_name": "name"}])
    rest = client.search_logged_models(["0"], page_token=page.token, order_by=[{"field_name": "name"}])
    assert [one.name for one in [*page, *rest]] == ["a", "b", "c"]
    refused(lambda: names(order_by=[{"field_name": "params.n"}]), "INVALID_PARAMETER_VALUE")


def test_the_older_record_of_a_model_is_kept_in_a_tag(client, wire):
    run_id = client.create_run("0").info.run_id
    model = {"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": run_id}
    for _ in range(2):
        answer = wire.post(f"{API}/runs/log-model", json={"run_id": run_id, "model_json": json.dumps(model)})
        assert (answer.status_code, answer.json()) == (200, {})
    assert json.loads(client.get_run(run_id).data.tags["mlflow.log-model.history"]) == [model, model]


def test_the_server_says_that_it_takes_plain_uploads_only(wire):
    for root in ("/api", "/ajax-api"):
        info = wire.get(f"{root}/3.0/mlflow/server-info").json()
        assert (info["store_type"], info["multipart_uploads_enabled"]) == ("SqlStore", False)
        assert wire.get(f"{root}/2.0/mlflow/experiments/search", params={"max_results": 1}).status_code == 200


RUN = "0" * 32


UNREADABLE = [
    ("experiments/create", {}),
    ("experiments/create", {"name": 123}),
    ("experiments/create", {"name": "a\0b"}),
    ("experiments/create", []),
    ("experiments/search", {"max_results": "many"}),
    ("experiments/search", {"view_type": "SOME"}),
    ("runs/create", {"experiment_id": 0}),
    ("runs/create", {"experiment_id": "0", "start_time": "soon"}),
    ("runs/create", {"experiment_id": "0", "start_time": 2**63}),
    ("runs/create", {"experiment_id": "0", "tags": [{"value": "x"}]}),
    ("runs/create", {"experiment_id": "0", "user_id": "\0"}),
    ("runs/update", {"status": "FINISHED"}),
    ("runs/update", {"run_id": RUN, "status": "DONE"}),
    ("runs/log-metric", {"run_id": RUN, "key": "m", "value": "high", "timestamp": 1}),
    ("runs/log-metric", {"run_id": RUN, "key": "m", "value": True, "timestamp": 1}),
    ("runs/log-metric", {"run_id": RUN, "key": "m", "value": 1}),
    ("runs/log-metric", {"run_id": RUN, "key": "m", "value": 1, "timestamp": 1, "step": "9" * 30}),
    ("runs/log-batch", {"run_id": RUN, "metrics": {}}),
    ("runs/log-model", {"run_id": RUN, "model_json": "{"}),
    ("runs/search", {"experiment_ids": "0"}),
    ("runs/search", {"experiment_ids": ["0"], "filter": "metrics.m ="}),
    ("runs/search", {"experiment_ids": ["0"], "order_by": ["metrics.m UP"]}),
    ("runs/search", {"experiment_ids": ["zero"]}),
    ("logged-models", {"experiment_id": "0", "name": "a/b"}),
    ("logged-models/search", {"experiment_ids": ["0"], "order_by": [{"field_name": "size"}]}),
]


def test_a_body_that_cannot_be_read_is_a_400_that_says_why(wire):
    for path, body in UNREADABLE:
        answer = wire.post(f"{API}/{path}", json=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (path, body)
        assert answer.json()["message"]
    assert wire.get(f"{API}/experiments/search").json()["experiments"][0]["name"] == "Default"


def test_unknown_fields_are_ignored_and_int64_may_come_as_text(wire):
    body = {"experiment_id": "0", "start_time": "1700000000000", "from_the_future": {"a": 1}}
    info = wire.post(f"{API}/runs/create", json=body).json()["run"]["info"]
    assert info["start_time"] == 1_700_000_000_000
    assert "end_time" not in info
    assert (
        wire.post(f"{API}/runs/update", json={"run_uuid": info["run_id"], "status": 3}).json()["run_info"]["status"]
        == "FINISHED"
    )
