"""The guide's server: PostgreSQL and S3, in the spellings of MLflow's own program and its variables; and what to do
when one of them can't be reached.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow.tracking import MlflowClient
from sklearn.metrics import accuracy_score

from tests.guide.blocks import (
    MODEL,
    POOR_PARAMS,
    X_test,
    draw_confusion_matrix,
    log_forest,
    promote_the_better,
    register,
    search_good_runs,
    y_test,
)
from tests.guide.served import CURL_BODY, post, predictions, wait_until_served

pytestmark = [
    pytest.mark.e2e,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def artifact_root():
    return f"s3://titlebout-test/{uuid.uuid4().hex[:8]}/experiments"


def by_options(database_url, artifact_root):
    return ["--backend-store-uri", database_url, "--default-artifact-root", artifact_root, "--workers", "4"], {}


def by_variables(database_url, artifact_root):
    return [], {
        "MLFLOW_BACKEND_STORE_URI": database_url,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root,
        "MLFLOW_WORKERS": "2",
    }


@pytest.mark.parametrize("said", [by_options, by_variables])
def test_the_guide_holds_on_postgresql_and_s3(
    serve, postgres_database_url, s3_environment, artifact_root, tmp_path, said
):
    options, variables = said(postgres_database_url, artifact_root)
    server = serve("--migrate", *options, environment={**s3_environment, **variables})
    url = server.url
    mlflow.set_tracking_uri(url)
    client = MlflowClient()

    poor, _, _ = log_forest("rf-poor", POOR_PARAMS)
    good, model, metrics = log_forest("rf-baseline-v1")
    plot = draw_confusion_matrix(model, tmp_path / "confusion_matrix.png")
    with mlflow.start_run(run_id=good.info.run_id):
        mlflow.log_artifact(str(plot), "plots")
    found = client.get_run(good.info.run_id)
    assert found.data.metrics == metrics
    fetched = client.download_artifacts(good.info.run_id, "plots", str(tmp_path))
    assert (Path(fetched) / plot.name).read_bytes() == plot.read_bytes()
    assert [run.info.run_id for run in search_good_runs(client)] == [good.info.run_id]

    register(client, poor, "One stump")
    register(client, good, "RandomForest baseline model with 100 trees")
    client.set_registered_model_alias(MODEL, "champion", 1)
    client.set_registered_model_alias(MODEL, "challenger", 2)
    wait_until_served(url, MODEL, champion=1, challenger=2)
    _, challenger = promote_the_better(client)
    wait_until_served(url, MODEL, champion=2, challenger=2)
    assert accuracy_score(y_test, challenger.predict(X_test)) > 0.9
    assert predictions(url, inputs=X_test.tolist()) == model.predict(X_test).tolist()
    assert post(url, body=CURL_BODY).json() == {"predictions": [0]}

    # Nothing but the state of a process is left on the server's own disk.
    assert not (server.data / "titlebout.db").exists()
    assert not (server.data / "artifacts").exists()


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"MODEL_NAME": "second"}, ("second", "1", "champion")),
        ({"MODEL_NAME": "second", "MODEL_ALIAS": "challenger"}, ("second", "2", "challenger")),
    ],
    ids=["a name", "its challenger"],
)
def test_the_model_of_the_guides_variables_answers_where_no_name_is_given(serve, variables, answer):
    url = serve(environment=variables).url
    mlflow.set_tracking_uri(url)
    client = MlflowClient()
    run, _, _ = log_forest("rf")
    for name, aliases in {"first": ["champion"], "second": ["champion", "challenger"]}.items():
        for number, alias in enumerate(aliases, 1):
            mlflow.register_model(f"runs:/{run.info.run_id}/model", name)
            client.set_registered_model_alias(name, alias, number)
        wait_until_served(url, name, **{alias: number for number, alias in enumerate(aliases, 1)})
    answered = post(url, body=CURL_BODY)
    assert answered.json() == {"predictions": [0]}
    assert tuple(answered.headers[f"X-Titlebout-{part}"] for part in ("Model", "Version", "Arm")) == answer


def doctor(tmp_path, database_url, artifact_root, environment):
    """Its exit status, and the lines that it printed, each as its words."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
    given = {name: value for name, value in environment.items() if value is not None}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gateway.cli", "doctor", "--data", str(tmp_path)),
            *("--backend-store-uri", database_url, "--default-artifact-root", artifact_root),
        ],
        env={**inherited, **given},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def migrated_url(postgres_database_url):
    from tracking.database import Database

    database = Database(postgres_database_url)
    database.upgrade()
    database.dispose()
    return postgres_database_url


def test_doctor_finds_a_working_set_up_well(tmp_path, migrated_url, s3_environment, artifact_root):
    status, lines = doctor(tmp_path, migrated_url, artifact_root, s3_environment)
    assert status == 0, lines
    assert {line.split()[0] for line in lines} == {"ok"}
    checked = [tuple(line.split()[1:3]) for line in lines]
    assert {("database", "reach"), ("database", "write")} <= set(checked)
    assert [step for part, step in checked if part == "artifacts"] == ["reach", "list", "write", "read", "delete"]


@pytest.mark.parametrize(
    ("wrong", "failed", "said"),
    [
        ({"artifact_root": "s3://no-such-bucket/experiments"}, ("artifacts", "reach"), "no-such-bucket"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "wrong"}}, ("artifacts", "reach"), "403"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": None}}, ("artifacts", "open"), "aws_secret_access_key"),
        ({"environment": {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}}, ("artifacts", "reach"), "127.0.0.1:1"),
        ({"database_url": "postgresql://mlflow:hidden@127.0.0.1:1/mlflow"}, ("database", "reach"), "127.0.0.1"),
    ],
    ids=["no such bucket", "wrong credentials", "half of the credentials", "no S3 there", "no database there"],
)
def test_doctor_says_in_one_line_what_cant_be_reached(
    tmp_path, migrated_url, s3_environment, artifact_root, wrong, failed, said
):
    status, lines = doctor(
        tmp_path,
        wrong.get("database_url", migrated_url),
        wrong.get("artifact_root", artifact_root),
        {**s3_environment, **wrong.get("environment", {})},
    )
    assert status != 0
    (line,) = [line for line in lines if line.startswith("FAIL") and failed[0] in line]
    assert tuple(line.split()[1:3]) == failed
    assert said in line
    assert "hidden" not in line


def test_the_log_says_why_a_store_cant_be_reached_and_no_caller_is_told(serve, s3_environment):
    server = serve(
        *("--backend-store-uri", "postgresql://mlflow:hidden@127.0.0.1:1/mlflow"),
        *("--default-artifact-root", "s3://titlebout-test/experiments"),
        environment={**s3_environment, "AWS_SECRET_ACCESS_KEY": "wrong"},
        started_by="/health",
    )
    answer = httpx.get(f"{server.url}/api/2.0/mlflow-artifacts/artifacts", timeout=60)
    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert "403" not in answer.text
    logged = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    reasons = {line["event"]: line["reason"] for line in logged if "reason" in line}
    assert "Connection refused" in reasons["database_away_at_start"]
    assert "Connection refused" in reasons["database_away"]
    assert "403" in reasons["uploads_not_swept"] or "SignatureDoesNotMatch" in reasons["uploads_not_swept"]
    assert "hidden" not in server.log
