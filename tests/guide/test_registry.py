"""The registry and what it serves: versions, aliases, promotion, stages, approval, and many who change one alias."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from sklearn.metrics import accuracy_score

from tests.guide.blocks import MODEL, POOR_PARAMS, X_test, X_train, log_forest, promote_the_better, register, y_test
from tests.guide.served import CURL_BODY, post, predictions, wait_until_served

pytestmark = [
    pytest.mark.e2e,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def client(url):
    return MlflowClient()


def register_poor_and_good(client):
    """Version 1, a poor model, and version 2, a good one, registered from their runs."""
    poor, _, _ = log_forest("rf-poor", POOR_PARAMS)
    good, _, _ = log_forest("rf-baseline-v1")
    assert register(client, poor, "One stump").version == "1"
    assert register(client, good, "RandomForest baseline model with 100 trees").version == "2"
    return poor, good


@pytest.fixture
def poor_and_good(client):
    return register_poor_and_good(client)


def test_the_better_version_is_promoted_and_answers_as_the_loaded_model_does(url, client, poor_and_good):
    _, good = poor_and_good
    described = client.get_model_version(MODEL, "2")
    assert described.description == "RandomForest baseline model with 100 trees"
    assert described.tags["validation_status"] == "approved"
    assert described.run_id == good.info.run_id

    client.set_registered_model_alias(name=MODEL, alias="champion", version=1)
    client.set_registered_model_alias(name=MODEL, alias="challenger", version=2)
    wait_until_served(url, MODEL, champion=1, challenger=2)
    champion, challenger = promote_the_better(client)
    assert accuracy_score(y_test, champion.predict(X_test)) < accuracy_score(y_test, challenger.predict(X_test))
    assert client.get_model_version_by_alias(MODEL, "champion").version == "2"
    assert client.get_model_version_by_alias(MODEL, "challenger").version == "2"
    wait_until_served(url, MODEL, champion=2, challenger=2)

    rows = X_test.tolist()
    assert predictions(url, inputs=rows) == challenger.predict(X_test).tolist()
    assert (
        predictions(url, f"/endpoints/{MODEL}/versions/1/invocations", inputs=rows) == champion.predict(X_test).tolist()
    )
    answer = post(url, body=CURL_BODY)
    assert answer.json() == {"predictions": [0]}
    assert (answer.headers["X-Titlebout-Version"], answer.headers["X-Titlebout-Arm"]) == ("2", "champion")


@pytest.mark.parametrize("columns", [None, ["sepal_length", "sepal_width", "petal_length", "petal_width"]])
def test_the_guides_curl_line_is_answered_with_and_without_named_columns(url, client, columns):
    import pandas as pd

    example = {}
    if columns:
        rows = pd.DataFrame(X_train[:5], columns=columns)
        example = {"signature": infer_signature(rows, np.array([0])), "input_example": rows}
    log_forest("rf", registered_model_name=MODEL, **example)
    client.set_registered_model_alias(MODEL, "champion", "1")
    wait_until_served(url, MODEL, champion=1)
    for path in ("/invocations", f"/endpoints/{MODEL}/invocations", f"/endpoints/{MODEL}@champion/invocations"):
        assert post(url, path, body=CURL_BODY).json() == {"predictions": [0]}
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    sent = pd.DataFrame(X_test, columns=columns) if columns else X_test
    assert predictions(url, instances=X_test.tolist()) == loaded.predict(sent).tolist()


def test_stages_are_kept_as_labels_and_change_no_traffic(url, client, poor_and_good):
    client.set_registered_model_alias(MODEL, "champion", "1")
    wait_until_served(url, MODEL, champion=1)
    with pytest.warns(FutureWarning, match="stages"):
        client.transition_model_version_stage(name=MODEL, version="1", stage="Production")
    with pytest.warns(FutureWarning, match="stages"):
        moved = client.transition_model_version_stage(
            name=MODEL, version="2", stage="Production", archive_existing_versions=True
        )
    assert moved.current_stage == "Production"
    with pytest.warns(FutureWarning, match="stages"):
        (latest,) = client.get_latest_versions(MODEL, stages=["Production"])
    assert latest.version == "2"
    assert client.get_model_version(MODEL, "1").current_stage == "Archived"
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}/Production")
    assert accuracy_score(y_test, loaded.predict(X_test)) > 0.9
    assert post(url, body=CURL_BODY).headers["X-Titlebout-Version"] == "1"


def model_approval_workflow(model_name, version):
    client = MlflowClient()
    model_version = client.get_model_version(model_name, version)
    run = client.get_run(model_version.run_id)
    accuracy = run.data.metrics.get("accuracy", 0)
    f1 = run.data.metrics.get("f1_macro", 0)
    quality_gates = {"accuracy >= 0.90": accuracy >= 0.90, "f1_macro >= 0.85": f1 >= 0.85}
    if all(quality_gates.values()):
        client.set_model_version_tag(name=model_name, version=version, key="approval_status", value="approved")
        client.set_registered_model_alias(name=model_name, alias="staging", version=version)
        return True
    client.set_model_version_tag(name=model_name, version=version, key="approval_status", value="rejected")
    return False


def test_a_version_is_approved_by_the_metrics_of_its_run(url, client, poor_and_good):
    assert model_approval_workflow(MODEL, 2)
    assert not model_approval_workflow(MODEL, 1)
    assert client.get_model_version_by_alias(MODEL, "staging").version == "2"
    status = {version: client.get_model_version(MODEL, version).tags["approval_status"] for version in ("1", "2")}
    assert status == {"1": "rejected", "2": "approved"}
    # `staging` is no arm of any endpoint: it can be read, and serves nothing.
    refused = post(url, f"/endpoints/{MODEL}/invocations", body=CURL_BODY)
    assert (refused.status_code, refused.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "staging" in refused.json()["message"]


def safe_transition_model(model_name, version, target_alias, max_retries=3):
    """The guide's retrying alias change; gives the attempts that it took, None if none did it."""
    client = MlflowClient()
    for attempt in range(max_retries):
        try:
            # The first to come finds no alias, which is no failure.
            with contextlib.suppress(MlflowException):
                client.get_model_version_by_alias(model_name, target_alias)
            client.set_registered_model_alias(name=model_name, alias=target_alias, version=version)
        except MlflowException:
            if attempt < max_retries - 1:
                time.sleep(2**attempt)
        else:
            return attempt + 1
    return None


def test_an_alias_that_many_teams_move_at_once_is_moved_at_the_first_try_by_each(url_on_both):
    client = MlflowClient()
    register_poor_and_good(client)
    together = threading.Barrier(6)

    def move(version):
        together.wait()
        return safe_transition_model(MODEL, version, "champion")

    with ThreadPoolExecutor(6) as teams:
        attempts = list(teams.map(move, [1, 2] * 3))
    assert attempts == [1] * 6
    settled = int(client.get_model_version_by_alias(MODEL, "champion").version)
    wait_until_served(url_on_both, MODEL, champion=settled)
    assert client.get_registered_model(MODEL).aliases == {"champion": str(settled)}
    assert safe_transition_model(MODEL, 99, "champion", max_retries=1) is None


def test_a_pipeline_that_knows_the_server_by_its_environment_moves_the_alias(url, client, poor_and_good):
    job = f"""
from mlflow.tracking import MlflowClient
client = MlflowClient()
client.set_registered_model_alias(
    name='{MODEL}',
    alias='champion',
    version=2
)
"""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": url}
    subprocess.run([sys.executable, "-c", job], env=environment, check=True, timeout=120)
    wait_until_served(url, MODEL, champion=2)


def test_versions_that_many_teams_register_at_once_have_numbers_of_their_own(url_on_both):
    run, _, _ = log_forest("rf")

    def register_again(_):
        return int(mlflow.register_model(f"runs:/{run.info.run_id}/model", MODEL).version)

    with ThreadPoolExecutor(4) as teams:
        # The first four also make the model at once; three of them are told that it is there, and go on.
        assert sorted(teams.map(register_again, range(8))) == list(range(1, 9))


def test_a_version_is_found_fetched_renamed_and_deleted_once_it_serves_nothing(url, client, poor_and_good, tmp_path):
    loaded = mlflow.sklearn.load_model(f"models:/{MODEL}/2")
    assert accuracy_score(y_test, loaded.predict(X_test)) > 0.9
    folder = client.get_model_version_download_uri(MODEL, "2")
    fetched = mlflow.artifacts.download_artifacts(artifact_uri=folder, dst_path=str(tmp_path / "fetched"))
    assert (mlflow.sklearn.load_model(fetched).predict(X_test) == loaded.predict(X_test)).all()

    client.set_registered_model_alias(MODEL, "champion", "2")
    wait_until_served(url, MODEL, champion=2)
    for delete in (lambda: client.delete_model_version(MODEL, "2"), lambda: client.delete_registered_model(MODEL)):
        began = time.monotonic()
        with pytest.raises(MlflowException, match=f"endpoint '{MODEL}'") as caught:
            delete()
        assert caught.value.error_code == "RESOURCE_CONFLICT"
        assert time.monotonic() - began < 60, "the client took it for a passing failure and tried again"
    client.delete_model_version(MODEL, "1")

    client.rename_registered_model(MODEL, "flowers")
    assert client.get_model_version("flowers", "2").name == "flowers"
    assert (
        predictions(url, f"/endpoints/{MODEL}/invocations", inputs=X_test.tolist()) == loaded.predict(X_test).tolist()
    )

    assert httpx.post(f"{url}/api/1.0/titlebout/endpoints/{MODEL}/stop", json={}).is_success
    deadline = time.monotonic() + 60
    while post(url, f"/endpoints/{MODEL}/invocations", body=CURL_BODY).is_success:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.delete_model_version("flowers", "2")
    with pytest.raises(MlflowException) as caught:
        mlflow.pyfunc.load_model("models:/flowers/2")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    client.delete_registered_model("flowers")
    assert list(client.search_registered_models()) == []
