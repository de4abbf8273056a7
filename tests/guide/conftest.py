"""What every example of the guide stands on: a Titlebout process, and a client that is pointed at it alone."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import mlflow
import mlflow.sklearn
import mlflow.transformers
import pytest
from mlflow.tracking import MlflowClient, fluent

from gateway.cli.client import Client
from gateway.cli.server_process import ServerProcess, free_port, server_process
from tests.conftest import new_postgres_database
from tests.guide.served import wait_until_served


@pytest.fixture(autouse=True)
def fresh_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A client as in a new process; it would keep its server, experiment and autologging from test to test."""
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        # Set and then deleted, so that what the client writes there is undone after the test as well.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    yield
    while mlflow.active_run():
        mlflow.end_run("FAILED")
    mlflow.sklearn.autolog(disable=True)
    mlflow.transformers.autolog(disable=True)
    mlflow.set_tracking_uri(None)


# For these tests and no longer: a server that waits for nothing asks its database twenty times a second.
@pytest.fixture(scope="package")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("guide"), port=free_port()) as server:
        yield server


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def shared_server_on_both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    options: list[str] = []
    with ExitStack() as life:
        if request.param == "postgresql":
            database_url = life.enter_context(new_postgres_database(request.getfixturevalue("postgres_url")))
            options = ["--migrate", "--backend-store-uri", database_url]
        data = tmp_path_factory.mktemp(request.param)
        yield life.enter_context(server_process(data, "--workers", "2", *options, port=free_port()))


@pytest.fixture
def url(shared_server: ServerProcess, fresh_client: None) -> str:
    """Where the server is; the client is pointed at it, as the first line of each example does."""
    return pointed_at(shared_server.url)


@pytest.fixture
def url_on_both(shared_server_on_both: ServerProcess, fresh_client: None) -> str:
    """The same, once on each database: for what several clients do at once."""
    return pointed_at(shared_server_on_both.url)


def pointed_at(url: str) -> str:
    clear(url)
    mlflow.set_tracking_uri(url)
    return url


def clear(url: str) -> None:
    """Leave no endpoint, model and experiment of another test's: as if each had a server of its own."""
    endpoints = [endpoint["name"] for endpoint in Client(url).status()["endpoints"]]
    for name in endpoints:
        httpx.post(f"{url}/api/1.0/titlebout/endpoints/{name}/stop").raise_for_status()
    for name in endpoints:
        wait_until_served(url, name)
    client = MlflowClient(url)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    for experiment in client.search_experiments():
        if experiment.experiment_id != "0":
            # The name of a deleted one stays its own.
            client.rename_experiment(experiment.experiment_id, uuid.uuid4().hex)
            client.delete_experiment(experiment.experiment_id)
