"""The tools that train, with the stock client, all pointed at one Titlebout process."""

from collections.abc import Iterator

import mlflow
import pytest

from gateway.cli.server_process import ServerProcess, free_port, server_process
from tests.guide.conftest import fresh_client

__all__ = ["fresh_client"]


@pytest.fixture(scope="package")
def shared_server(tmp_path_factory) -> Iterator[ServerProcess]:
    """One for all tests here, which keep to experiments and names of their own."""
    with server_process(tmp_path_factory.mktemp("server"), port=free_port()) as server:
        yield server


@pytest.fixture
def url(shared_server, fresh_client) -> str:
    mlflow.set_tracking_uri(shared_server.url)
    return shared_server.url
