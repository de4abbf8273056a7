"""One server for the clients of all protocols, with a model whose answers show each bit and one with two arms."""

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from gateway.cli.server_process import free_port, server_process
from tests.clients import client_python
from tests.guide.served import wait_until_served
from tests.training import IRIS, constant_classifier, register, set_alias

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]
COLUMNS = list(IRIS.data.columns)


class Served:
    """A server with `iris` (version 1 champion, version 2 challenger, labels) and `petal` (version 1, doubles)."""

    ROWS = ROWS
    COLUMNS = COLUMNS
    RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]  # noqa: RUF012  (never changed)

    def __init__(self, url):
        self.url = url
        self.expected = [self.mlflow([row]) for row in ROWS]
        """The bodies that MLflow's own protocol answers to each of ROWS alone, its key left out."""

    def mlflow(self, rows):
        return self.post("/endpoints/petal/invocations", json={"inputs": rows}).json()["predictions"]

    def post(self, path, **options):
        return httpx.post(f"{self.url}{path}", timeout=30, **options)

    def get(self, path, **options):
        return httpx.get(f"{self.url}{path}", timeout=30, **options)


@pytest.fixture(scope="package")
def served(tmp_path_factory):
    with server_process(tmp_path_factory.mktemp("protocols"), port=free_port()) as server:
        register(server.url, "iris", constant_classifier(0))
        register(server.url, "iris", constant_classifier(1))
        register(server.url, "petal", LinearRegression().fit(IRIS.data, np.sqrt(IRIS.target + 0.1)))
        for name, alias, version in [("iris", "champion", 1), ("iris", "challenger", 2), ("petal", "champion", 1)]:
            set_alias(server.url, name, alias, version)
        wait_until_served(server.url, "iris", champion=1, challenger=2)
        wait_until_served(server.url, "petal", champion=1)
        yield Served(server.url)


@pytest.fixture(scope="session")
def kserve_python():
    return client_python("kserve")


@pytest.fixture(scope="session")
def triton_python():
    return client_python("triton")
