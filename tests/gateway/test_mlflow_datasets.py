"""Datasets as the stock MLflow client makes, fills and finds them."""

import httpx
import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.genai import datasets

# A server for each test: slow, so that `make test` stays under two minutes; part of `make check`.
pytestmark = pytest.mark.slow

API = "/api/3.0/mlflow/datasets"


@pytest.fixture
def wire(api_server):
    with httpx.Client(base_url=api_server) as client:
        yield client


@pytest.fixture(autouse=True)
def tracking(api_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(api_server)
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture
def questions():
    return datasets.create_dataset(name="questions", experiment_id=["0"], tags={"team": "bees"})


def test_a_dataset_is_made_filled_found_and_deleted(questions):
    questions.merge_records(
        [
            {"inputs": {"q": "1+1"}, "expectations": {"answer": 2}},
            {"inputs": {"q": "2+2"}, "outputs": "4", "tags": {"hard": "no"}},
        ]
    )
    found = datasets.get_dataset(dataset_id=questions.dataset_id)
    assert (found.name, found.tags["team"], found.experiment_ids) == ("questions", "bees", ["0"])
    frame = found.to_df()
    assert [one["q"] for one in frame["inputs"]] == ["1+1", "2+2"]
    assert list(frame["source_type"]) == ["HUMAN", "CODE"]
    assert frame["expectations"][0] == {"answer": 2}
    assert [one.name for one in datasets.search_datasets(filter_string="tags.team = 'bees'")] == ["questions"]
    assert found.delete_records([frame["dataset_record_id"][0]]) == 1
    assert len(found.to_df()) == 1
    datasets.delete_dataset(dataset_id=questions.dataset_id)
    with pytest.raises(MlflowException) as caught:
        datasets.get_dataset(dataset_id=questions.dataset_id)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_tags_and_experiments_change(questions):
    other = mlflow.create_experiment("other")
    datasets.set_dataset_tags(dataset_id=questions.dataset_id, tags={"stage": 1})
    datasets.delete_dataset_tag(dataset_id=questions.dataset_id, key="team")
    changed = datasets.add_dataset_to_experiments(dataset_id=questions.dataset_id, experiment_ids=[other])
    assert (changed.tags["stage"], changed.experiment_ids) == ("1", ["0", other])
    assert "team" not in changed.tags
    changed = datasets.remove_dataset_from_experiments(dataset_id=questions.dataset_id, experiment_ids=["0"])
    assert changed.experiment_ids == [other]


def test_datasets_can_be_searched_by_query(wire, questions):
    found = wire.get(f"{API}/search", params={"experiment_ids": "0", "filter_string": "name = 'questions'"}).json()
    assert [one["dataset_id"] for one in found["datasets"]] == [questions.dataset_id]
    assert wire.get(f"{API}/{questions.dataset_id}/experiment-ids").json() == {"experiment_ids": ["0"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/create", {"name": ""}, id="no name"),
        pytest.param("/create", {"name": "a", "tags": "no JSON"}, id="tags that aren't JSON"),
        pytest.param("/create", {"name": "a", "tags": "[1]"}, id="tags that aren't an object"),
        pytest.param("/create", {"name": "a\0b"}, id="a name with NUL"),
        pytest.param("/search", {"filter_string": "metrics.a > 1"}, id="a filter by what datasets haven't"),
        pytest.param("/search", {"max_results": 0}, id="no results"),
        pytest.param("/ID/records", {"records": "{}"}, id="records that aren't a list"),
        pytest.param("/ID/records", {"records": "[" * 100_000}, id="records nested too deep"),
        pytest.param("/ID/records", {"records": '[{"inputs": 1}]'}, id="inputs that aren't an object"),
    ],
)
def test_bad_input_is_told_apart_from_a_fault(wire, questions, path, body):
    answer = wire.post(API + path.replace("ID", questions.dataset_id), json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("prefix", ["/api/2.0mlflow", "/api/2.0/mlflow", "/ajax-api/2.0/mlflow"])
def test_what_runs_used_is_found_under_the_protocols_own_spelling_too(wire, prefix):
    with mlflow.start_run(experiment_id="0") as run:
        pass
    used = {"dataset": {"name": "iris", "digest": "1a", "source_type": "local", "source": "{}"}}
    used["tags"] = [{"key": "mlflow.data.context", "value": "training"}]
    wire.post("/api/2.0/mlflow/runs/log-inputs", json={"run_id": run.info.run_id, "datasets": [used]})
    found = wire.post(f"{prefix}/experiments/search-datasets", json={"experiment_ids": ["0"]}).json()
    assert found == {
        "dataset_summaries": [{"experiment_id": "0", "name": "iris", "digest": "1a", "context": "training"}]
    }
    assert wire.post(f"{prefix}/experiments/search-datasets", json={}).status_code == 400
