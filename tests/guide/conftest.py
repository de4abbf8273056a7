"""What every example of the guide stands on: a Titlebout process, and a client that is pointed at it alone."""

from collections.abc import Callable, Iterator

import mlflow
import mlflow.sklearn
import mlflow.transformers
import pytest
from mlflow.tracking import fluent

from gateway.cli.server_process import ServerProcess


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


@pytest.fixture
def server(serve: Callable[..., ServerProcess]) -> ServerProcess:
    return serve()


@pytest.fixture(params=["sqlite", "postgresql"])
def url_on_both(request: pytest.FixtureRequest, serve: Callable[..., ServerProcess]) -> str:
    """The same, once on each database: for what several clients do at once."""
    options = []
    if request.param == "postgresql":
        options = ["--migrate", "--backend-store-uri", request.getfixturevalue("postgres_database_url")]
    server = serve("--workers", "2", *options)
    mlflow.set_tracking_uri(server.url)
    return server.url


@pytest.fixture
def url(server: ServerProcess) -> str:
    """Where the server is; the client is pointed at it, as the first line of each example does."""
    mlflow.set_tracking_uri(server.url)
    return server.url
