"""Artifacts asked for by their owner, as MLflow's pages do."""

import httpx
import pytest
from mlflow import MlflowClient

API = "/api/2.0/mlflow"
AJAX = "/ajax-api/2.0/mlflow"


@pytest.fixture
def client(api_server):
    return MlflowClient(tracking_uri=api_server, registry_uri=api_server)


@pytest.fixture
def wire(api_server):
    with httpx.Client(base_url=api_server) as client:
        yield client


@pytest.fixture
def run(client):
    return client.create_run("0")


@pytest.fixture
def logged_model(client, wire):
    """A logged model with MLmodel and data/weights.bin."""
    model = client.create_logged_model("0", name="iris")
    folder = model.artifact_location.removeprefix("mlflow-artifacts:/")
    for path, content in (("MLmodel", b"flavors: {}"), ("data/weights.bin", b"\x00\x01")):
        wire.put(f"/api/2.0/mlflow-artifacts/artifacts/{folder}/{path}", content=content).raise_for_status()
    return model


def test_a_page_can_upload_a_small_file_to_a_run_and_read_it_back(wire, client, run):
    asked = {"run_uuid": run.info.run_id, "path": "notes/plan.json"}
    wire.post(f"{AJAX}/upload-artifact", params=asked, json={"step": 1}).raise_for_status()
    assert [one.path for one in client.list_artifacts(run.info.run_id, "notes")] == ["notes/plan.json"]
    asked = {"run_id": run.info.run_id, "path": "notes/plan.json"}
    assert wire.get("/get-artifact", params=asked).json() == {"step": 1}


@pytest.mark.parametrize(
    ("params", "content", "status"),
    [
        pytest.param({"path": "a"}, b"x", 400, id="no run"),
        pytest.param({"run_uuid": "0" * 32, "path": "a"}, b"x", 404, id="no such run"),
        pytest.param({"run_uuid": "RUN", "path": "../a"}, b"x", 400, id="a path that leads out"),
        pytest.param({"run_uuid": "RUN"}, b"x", 400, id="no path"),
        pytest.param({"run_uuid": "RUN", "path": "a"}, b"", 400, id="no content"),
        pytest.param({"run_uuid": "RUN", "path": "a"}, b"x" * (10 * 1024 * 1024 + 1), 413, id="too large"),
    ],
)
def test_an_upload_that_cannot_be_is_refused(wire, run, params, content, status):
    params = {key: run.info.run_id if value == "RUN" else value for key, value in params.items()}
    assert wire.post(f"{AJAX}/upload-artifact", params=params, content=content).status_code == status


def test_a_logged_models_files_are_listed_and_read_from_its_root(wire, logged_model):
    below = f"/logged-models/{logged_model.model_id}/artifacts"
    listed = wire.get(f"{API}{below}/directories").json()
    assert listed == {
        "root_uri": logged_model.artifact_location,
        "files": [
            {"path": "MLmodel", "is_dir": False, "file_size": 11},
            {"path": "data", "is_dir": True},
        ],
    }
    listed = wire.get(f"{API}{below}/directories", params={"artifact_directory_path": "data"}).json()
    assert [one["path"] for one in listed["files"]] == ["data/weights.bin"]
    answer = wire.get(f"{AJAX}{below}/files", params={"artifact_file_path": "data/weights.bin"})
    assert answer.content == b"\x00\x01"
    assert wire.get(f"{AJAX}{below}/files", params={"artifact_file_path": "none"}).status_code == 404
    assert wire.get(f"{AJAX}{below}/files", params={"artifact_file_path": "../x"}).status_code == 400
    assert wire.get(f"{API}/logged-models/m-none/artifacts/directories").status_code == 404


def test_a_versions_file_is_read_by_its_number(wire, client, logged_model):
    client.create_registered_model("iris")
    client.create_model_version("iris", f"models:/{logged_model.model_id}", model_id=logged_model.model_id)
    asked = {"name": "iris", "version": "1", "path": "MLmodel"}
    assert wire.get("/model-versions/get-artifact", params=asked).content == b"flavors: {}"
    assert wire.get("/model-versions/get-artifact", params=asked | {"version": "2"}).status_code == 404
    assert wire.get("/model-versions/get-artifact", params=asked | {"version": "x"}).status_code == 400


def test_a_prompt_has_no_files_to_read(wire, client):
    client.register_prompt("greeting", "Hello {{name}}")
    asked = {"name": "greeting", "version": "1", "path": "MLmodel"}
    answer = wire.get("/model-versions/get-artifact", params=asked)
    assert answer.status_code == 400
    assert "artifact store" in answer.json()["message"]


def test_registering_by_the_plain_api_notes_the_version_on_the_logged_model(client, logged_model):
    client.create_registered_model("iris")
    for _ in range(2):
        client.create_model_version("iris", f"models:/{logged_model.model_id}", model_id=logged_model.model_id)
    noted = client.get_logged_model(logged_model.model_id).tags["mlflow.modelVersions"]
    assert noted == '[{"name": "iris", "version": 1}, {"name": "iris", "version": 2}]'
