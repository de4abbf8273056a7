"""Once a version is registered, its files are what they are: whoever would change them is told so, at once."""

import time
from contextlib import contextmanager

import mlflow
import numpy as np
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from sklearn.ensemble import RandomForestClassifier

from tests.guide.blocks import LOG_MODEL, MODEL, X_test, X_train, log_forest, y_train
from tests.guide.served import predictions, wait_until_problem, wait_until_served
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store

pytestmark = [
    pytest.mark.e2e,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]


@contextmanager
def refused_at_once(sentence, *, status=409):
    """The client tries again for minutes what it takes for a passing failure; this isn't one."""
    began = time.monotonic()
    with pytest.raises((MlflowException, requests.HTTPError)) as caught:
        yield
    assert sentence in str(caught.value)
    assert time.monotonic() - began < 60
    if isinstance(caught.value, requests.HTTPError):
        assert caught.value.response.status_code == status
    else:
        assert caught.value.get_http_status_code() == status


@pytest.mark.parametrize("kept_in", ["logged model", "run"])
def test_the_files_of_a_registered_version_stay_as_they_are(url, tmp_path, kept_in):
    client = MlflowClient()
    run, model, _ = log_forest("rf", registered_model_name=MODEL if kept_in == "logged model" else None)
    if kept_in == "run":
        mlflow.sklearn.save_model(model, tmp_path / "saved", **LOG_MODEL)
        client.log_artifacts(run.info.run_id, tmp_path / "saved", "model")
        mlflow.register_model(f"runs:/{run.info.run_id}/model", MODEL)
    uri = client.get_model_version_download_uri(MODEL, "1")
    sentence = f"registered as {MODEL} version 1: log the change as a new version"

    if kept_in == "logged model":
        model_uri = f"models:/{client.get_run(run.info.run_id).outputs.model_outputs[0].model_id}"
        with refused_at_once(sentence):
            mlflow.models.set_signature(model_uri, infer_signature(X_train, np.array([0])))
        with refused_at_once(sentence):
            mlflow.models.update_model_requirements(model_uri, "add", ["pandas"])
    else:
        with refused_at_once(sentence):
            client.log_text(run.info.run_id, "more", "model/more.txt")
        with refused_at_once(sentence):
            mlflow.models.set_signature(f"runs:/{run.info.run_id}/model", infer_signature(X_train, np.array([0])))
    (tmp_path / "MLmodel").write_text("flavors: {}")
    store = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(uri)
    with refused_at_once(sentence):
        store.log_artifact(str(tmp_path / "MLmodel"))
    with refused_at_once(sentence):
        store.delete_artifacts("MLmodel")
    with refused_at_once(sentence):
        store.delete_artifacts()
    assert (mlflow.sklearn.load_model(f"models:/{MODEL}/1").predict(X_test) == model.predict(X_test)).all()

    # Beside it everything is as free as before, and the change itself is a new version.
    client.log_text(run.info.run_id, "notes", "notes.txt")
    log_forest("rf-2", registered_model_name=MODEL, signature=infer_signature(X_train, np.array([0])))
    assert client.get_model_version(MODEL, "2").status == "READY"


@pytest.mark.parametrize("source", ["s3://elsewhere/model", "/etc", "file:///etc", "https://elsewhere.example/model"])
def test_a_source_outside_the_store_is_refused_by_the_name_of_the_setting(url, source):
    client = MlflowClient()
    client.create_registered_model(MODEL)
    with refused_at_once("TITLEBOUT_SOURCE_PREFIXES", status=400):
        client.create_model_version(MODEL, source)
    assert list(client.search_model_versions(f"name = '{MODEL}'")) == []


@pytest.mark.parametrize("kept_in", ["folder", "bucket"])
def test_a_source_below_a_prefix_of_that_setting_is_served(serve, request, tmp_path, kept_in):
    model = RandomForestClassifier(n_estimators=3, random_state=0).fit(X_train, y_train)
    mlflow.sklearn.save_model(model, tmp_path / "shared" / "forest", **LOG_MODEL)
    prefix, environment = (tmp_path / "shared").as_uri(), {}
    if kept_in == "bucket":
        prefix, environment = f"s3://titlebout-test/{tmp_path.name}", request.getfixturevalue("s3_environment")
        bucket = open_store(prefix, environment)
        for path in (tmp_path / "shared" / "forest").iterdir():
            with bucket.upload(ArtifactPath.parse(f"forest/{path.name}")) as upload:
                upload.write(path.read_bytes())
                upload.finish()
                upload.publish()
    url = serve(environment={**environment, "TITLEBOUT_SOURCE_PREFIXES": prefix}).url
    mlflow.set_tracking_uri(url)
    client = MlflowClient()
    client.create_registered_model(MODEL)
    with refused_at_once("TITLEBOUT_SOURCE_PREFIXES", status=400):
        client.create_model_version(MODEL, f"{prefix}-beside-it/forest")
    client.create_model_version(MODEL, f"{prefix}/forest")
    client.set_registered_model_alias(MODEL, "champion", "1")
    wait_until_served(url, MODEL, champion=1)
    assert predictions(url, inputs=X_test.tolist()) == model.predict(X_test).tolist()


def test_a_version_registered_before_its_files_is_served_once_they_are_there(url, tmp_path):
    client = MlflowClient()
    run, model, _ = log_forest("rf")
    client.create_registered_model(MODEL)
    source = f"runs:/{run.info.run_id}/late"
    version = client.create_model_version(MODEL, source, run_id=run.info.run_id)
    assert version.version == "1"
    client.set_registered_model_alias(MODEL, "champion", "1")

    mlflow.sklearn.save_model(model, tmp_path / "late", **LOG_MODEL)
    # The small file that makes the folder a model's comes first, and is tried before the large one is there.
    client.log_artifact(run.info.run_id, tmp_path / "late" / "MLmodel", "late")
    wait_until_problem(url, MODEL, "model.skops")
    for path in sorted((tmp_path / "late").iterdir()):
        client.log_artifact(run.info.run_id, path, "late")
    wait_until_served(url, MODEL, champion=1)
    assert predictions(url, inputs=X_test.tolist()) == model.predict(X_test).tolist()
    with refused_at_once(f"registered as {MODEL} version 1"):
        client.log_text(run.info.run_id, "more", "late/more.txt")
