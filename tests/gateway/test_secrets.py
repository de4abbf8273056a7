"""Secrets are planted where installations have them, and everything that anybody might read is looked through."""

import base64
import os
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from registry.schema import PredictionKeyRow
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import mlflow, register_function, set_alias
from tracking.database import Database

pytestmark = pytest.mark.e2e

# Nobody listens there: what leads there fails, and says so.
NOBODY = "127.0.0.1:1"

IN_SETTINGS = [
    "database password",
    "database key password",
    "admin token",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "S3 endpoint password",
    "proxy password",
    "header of traces",
    "malformed header of traces",
    "traces endpoint password",
    "PGPASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "HF_TOKEN",
    "OIDC client secret",
]
IN_REQUESTS = [
    "bearer token",
    "basic password",
    "cookie",
    "token in the query",
    "forwarded identity",
    "webhook secret",
    "token in the webhook query",
    "webhook password",
]
IN_DATABASE = ["prediction key"]
SECRETS = {
    name: f"planted{number:02}{uuid.uuid4().hex}"
    for number, name in enumerate([*IN_SETTINGS, *IN_REQUESTS, *IN_DATABASE])
}


def environment(database_host):
    s = SECRETS
    return {
        "TITLEBOUT_DATABASE_URL": f"postgresql://postgres:{s['database password']}@{database_host}"
        f"?sslpassword={s['database key password']}",
        "TITLEBOUT_ADMIN_TOKEN": s["admin token"],
        "TITLEBOUT_WEBHOOK_ALLOW_PRIVATE": "true",
        # Without the issuer, for whom nobody would get in here; what is sent to it is looked at in access/test_oidc.py.
        "TITLEBOUT_OIDC_CLIENT_SECRET": s["OIDC client secret"],
        "TITLEBOUT_WEBHOOK_TRIES_MAX": "1",
        "AWS_ENDPOINT_URL_S3": f"http://somebody:{s['S3 endpoint password']}@{NOBODY}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TITLEBOUT_IDLE_GRACE_S": "0",
        "HTTP_PROXY": f"http://somebody:{s['proxy password']}@{NOBODY}",
        "HTTPS_PROXY": f"http://somebody:{s['proxy password']}@{NOBODY}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://somebody:{s['traces endpoint password']}@{NOBODY}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={s['header of traces']},{s['malformed header of traces']}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "MLFLOW_TRACKING_USERNAME": "somebody",
        **{name: value for name, value in s.items() if name.isupper()},
    }


class Everything:
    """What was read, by where it was, and what should not have been in it."""

    def __init__(self):
        self._read = []

    def add(self, place, text):
        self._read.append((place, text))

    def add_answer(self, answer):
        self.add(f"{answer.status_code} to {answer.request.url.path}", f"{answer.headers}\n{answer.text}")

    def add_files_below(self, folder):
        for path in folder.rglob("*"):
            if path.is_file():
                self.add(str(path), path.read_bytes().decode(errors="replace"))

    def text_of(self, place):
        return "\n".join(text for where, text in self._read if where == place)

    def leaks(self):
        return sorted({(name, place) for place, text in self._read for name in found_in(text)})


def found_in(text):
    return {name for name, value in SECRETS.items() if any(spelling in text for spelling in spellings(value))}


def spellings(value):
    # Whatever comes before it, one of three ways in base64 ends alike.
    shifted = [base64.b64encode(b"\0" * before + value.encode()).decode()[4:-4] for before in range(3)]
    return [value, *shifted]


@contextmanager
def secrets_kept(server):
    """Adds, at the end, all that *server*'s processes show and leave."""
    seen = Everything()
    yield seen
    supervisor = psutil.Process(server.process.pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    for process in family:
        seen.add(f"ps of {process.pid}", " ".join(process.cmdline()))
        if any(word in " ".join(process.cmdline()) for word in ("warm_parent", "codec_process")):
            seen.add(f"environment of {process.cmdline()[2]}", str(process.environ()))
    run_folder = next(Path(file.path).parent for file in supervisor.open_files() if "titlebout-run-" in file.path)
    for path in ("/metrics", "/openapi.json", "/ready", "/api/1.0/titlebout/status", "/%00", "/nothing"):
        seen.add_answer(httpx.get(server.url + path))
    seen.add("titlebout status", CliRunner().invoke(cli, ["status", "--server", server.url]).output)
    seen.add_files_below(run_folder)
    server.stop(signal.SIGINT)
    seen.add_files_below(server.data)


def doctor(server_environment, *options):
    ran = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "doctor", *map(str, options)],
        env={**os.environ, **server_environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ran.stdout + ran.stderr


def tells_its_surroundings():
    """A model that answers with all that it can read of its own process."""

    class Tells(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import os
            from pathlib import Path

            own = [Path(f"/proc/self/{name}").read_bytes() for name in ("environ", "cmdline")]
            return [str([dict(os.environ), *own])]

    return Tells()


def ask_in_every_way(url, seen):
    """Right and wrong requests, with credentials wherever a caller may put some."""
    s = SECRETS
    always = {"Cookie": f"session={s['cookie']}", "X-Forwarded-Access-Token": s["forwarded identity"]}
    bearer = {"Authorization": f"Bearer {s['bearer token']}"}
    basic = {"Authorization": "Basic " + base64.b64encode(f"somebody:{s['basic password']}".encode()).decode()}
    json, parquet = {"Content-Type": "application/json"}, {"Content-Type": "application/vnd.apache.parquet"}
    experiments, scoring = "/api/2.0/mlflow/experiments", "/endpoints/tells/invocations"
    query = {"token": s["token in the query"]}
    with httpx.Client(base_url=url, params=query, headers=always, timeout=60) as client:
        for method, path, headers, body in [
            ("GET", f"{experiments}/get", bearer, None),
            ("GET", f"{experiments}/get?experiment_id=0", basic, None),
            ("POST", f"{experiments}/create", basic | json, b"{"),
            ("POST", f"{experiments}/create", bearer | json, b'{"name": 1}'),
            ("GET", "/nothing", bearer, None),
            ("GET", "/nothing", basic, None),
            ("POST", scoring, bearer | json, b'{"inputs": ["x"]}'),
            ("POST", scoring, basic | json, b'{"wrong": 1}'),
            ("POST", scoring, bearer | parquet, b"PAR1"),
            ("POST", "/endpoints/nobody/invocations", basic | json, b'{"inputs": ["x"]}'),
            ("PUT", "/api/2.0/mlflow-artifacts/artifacts/a.txt", bearer, b"x"),
            ("GET", "/api/1.0/titlebout/prediction-keys", basic, None),
            ("POST", "/feedback", basic | json, b'{"prediction_id": "forged", "label": 1}'),
            ("POST", "/api/1.0/titlebout/prediction-keys/rotate", basic | json, b"{}"),
        ]:
            seen.add_answer(client.request(method, path, headers=headers, content=body))


def plant_prediction_key(database_url):
    database = Database(database_url)
    database.upgrade()
    with database.writing() as session:
        session.add(PredictionKeyRow(id="0a0b0c0d", secret=SECRETS["prediction key"].encode(), made_ms=1))
    database.dispose()


def provoke_webhooks(url, seen):
    s = SECRETS
    path = f"{url}/api/2.0/mlflow/webhooks"
    event = [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}]
    hook = {"name": "h", "events": event, "secret": s["webhook secret"]}
    open_hook = {**hook, "url": f"http://{NOBODY}/hook?token={s['token in the webhook query']}"}
    made = httpx.post(path, json=open_hook).json()["webhook"]
    assert s["webhook secret"] not in str(made)
    seen.add_answer(httpx.post(f"{path}/{made['webhook_id']}/test", json={}))
    with_password = {**hook, "url": f"http://somebody:{s['webhook password']}@{NOBODY}/"}
    seen.add_answer(httpx.post(path, json=with_password))


def test_twenty_planted_secrets_are_found_nowhere(serve, postgres_database_url, tmp_path):
    given = environment(postgres_database_url.partition("@")[2])
    plant_prediction_key(given["TITLEBOUT_DATABASE_URL"])
    server = serve("--migrate", "--log-level", "DEBUG", environment=given)
    with secrets_kept(server) as seen:
        provoke_webhooks(server.url, seen)
        register_function(server.url, "tells", tells_its_surroundings())
        set_alias(server.url, "tells", "champion", 1)
        wait_until_served(server.url, "tells", champion=1)
        ask_in_every_way(server.url, seen)
        # The exporter of traces tries again or not as its pause falls; either way it says why.
        exported = ("Transient error", "Failed to export")
        wait_until(lambda: "webhook_given_up" in server.log and any(said in server.log for said in exported))
        seen.add("titlebout doctor", doctor(given, "--data", server.data))
        own = str(psutil.Process(server.process.pid).environ())
    assert found_in(own) == set(IN_SETTINGS), "what was planted is not where it should be"
    assert "PATH" in seen.text_of("200 to /endpoints/tells/invocations"), "the model has not told its surroundings"
    assert seen.leaks() == []


@pytest.mark.parametrize("away", ["database", "s3"])
def test_planted_secrets_are_found_nowhere_while_a_part_is_away(serve, tmp_path, away):
    given = environment(f"{NOBODY}/titlebout")
    given["TITLEBOUT_ARTIFACT_ROOT"] = "s3://bucket/prefix"
    # As an option it would be seen by `ps`, in each process that is a copy of the first.
    url = given.pop("TITLEBOUT_DATABASE_URL")
    options = ["--database-url", url] if away == "database" else []
    server = serve("--log-level", "DEBUG", *options, environment=given, started_by="/health")
    with secrets_kept(server) as seen:
        ask_in_every_way(server.url, seen)
        seen.add("titlebout doctor", doctor(given, "--data", server.data, *options))
    assert seen.leaks() == []
