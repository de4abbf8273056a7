"""The promotion workflow's scripts, run as the workflow runs them, with MLflow's own client against a live server."""

import importlib.util
import os
import subprocess
import sys

import click
import pytest
from mlflow import MlflowClient

from tests.deployment.tools import ROOT
from tests.loadtests.stand_in import standing_in

GOOD = {"accuracy": 0.96, "f1_macro": 0.95}


def run_script(name, url, *options):
    return subprocess.run(
        [sys.executable, f".github/scripts/{name}", "--model-name=iris-classifier", "--model-version=1", *options],
        env={**os.environ, "MLFLOW_TRACKING_URI": url},
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def register(api_server, tmp_path):
    """Registers version 1 of a model that has an MLmodel and nothing to load, made by a run with the given metrics."""
    client = MlflowClient(api_server)

    def register(metrics):
        run = client.create_run(client.create_experiment("iris"))
        for name, value in metrics.items():
            client.log_metric(run.info.run_id, name, value)
        (tmp_path / "MLmodel").write_text("flavors: {}\n")
        client.log_artifact(run.info.run_id, str(tmp_path / "MLmodel"), "model")
        client.set_terminated(run.info.run_id)
        client.create_registered_model("iris-classifier")
        client.create_model_version("iris-classifier", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
        return client

    return register


@pytest.mark.e2e
def test_a_version_that_meets_its_gates_is_approved(register, api_server):
    client = register(GOOD)
    done = run_script("validate_model.py", api_server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS  accuracy >= 0.9  (found: 0.96)" in done.stdout
    assert client.get_model_version("iris-classifier", "1").tags["approval_status"] == "approved"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        pytest.param(GOOD | {"f1_macro": 0.5}, "FAIL  f1_macro >= 0.85  (found: 0.5)", id="too low"),
        pytest.param({"accuracy": 0.96}, "FAIL  f1_macro >= 0.85  (found: nothing)", id="never logged"),
    ],
)
def test_a_version_that_misses_a_gate_is_rejected(register, api_server, metrics, line):
    client = register(metrics)
    done = run_script("validate_model.py", api_server)
    assert done.returncode == 1
    assert line in done.stdout
    assert client.get_model_version("iris-classifier", "1").tags["approval_status"] == "rejected"


@pytest.mark.e2e
def test_a_version_that_is_not_there_is_one_clear_sentence(api_server):
    done = run_script("validate_model.py", api_server)
    assert done.returncode == 1
    assert "The registry refused" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_an_alias_moves_with_a_warning_where_there_is_no_example_to_ask(register, api_server):
    client = register(GOOD)
    done = run_script("move_alias.py", api_server, "--alias=champion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::warning::" in done.stdout
    assert client.get_model_version_by_alias("iris-classifier", "champion").version == "1"


@pytest.fixture(scope="module")
def move_alias():
    spec = importlib.util.spec_from_file_location("move_alias", ROOT / ".github/scripts/move_alias.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answering(versions):
    """Answers with one of *versions* after the other, and then with the last of them."""
    remaining = list(versions)

    def answer(_rows, _unit):
        version = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if version is None:
            return 503, {}, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "loading"}
        return 200, {"X-Titlebout-Version": version}, {"predictions": [0]}

    return answer


def wait_for_version_4(move_alias, url, timeout_s):
    move_alias._wait_for_answer(url, '{"inputs": [[1]]}', "champion", 4, timeout_s)


def test_the_wait_ends_with_the_first_answer_of_the_new_version(move_alias):
    with standing_in(answering(["3", None, "4"])) as url:
        wait_for_version_4(move_alias, url, timeout_s=30)


@pytest.mark.parametrize(
    ("versions", "seen"),
    [
        pytest.param(["3"], "Last seen: 3", id="the old version serves on"),
        pytest.param([None], "Last seen: status 503.*loading", id="nothing serves"),
    ],
)
def test_the_wait_fails_with_what_was_seen_instead(move_alias, versions, seen):
    with standing_in(answering(versions)) as url, pytest.raises(click.ClickException, match=seen):
        wait_for_version_4(move_alias, url, timeout_s=0)
