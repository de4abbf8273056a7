"""A rollout on a real server, under load: a bad version is put back with no human, a good one becomes champion."""

import threading
from contextlib import contextmanager

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.client import Client
from gateway.cli.server_process import free_port, server_process
from tests.gateway.test_serving import BODY, JSON, wait_until_served
from tests.training import IRIS, constant_classifier, mlflow, register, register_function, set_alias

pytestmark = pytest.mark.e2e


def fails_now_and_then():
    """One request of twenty; a class of a function, so that it is pickled by value."""

    class Fails(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import random

            if random.random() < 0.05:
                raise RuntimeError("now and then")
            return [1] * len(model_input)

    return Fails()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with server_process(tmp_path_factory.mktemp("rollouts"), port=free_port()) as server:
        for answer in (0, 1):
            register(server.url, "iris", constant_classifier(answer))
        register_function(server.url, "iris", fails_now_and_then(), input_example=IRIS.data.head(2))
        set_alias(server.url, "iris", "champion", 1)
        wait_until_served(server.url, "iris", champion=1)
        yield server


@contextmanager
def callers(url):
    """Four, who ask one after the other until the end of the block."""
    over = threading.Event()

    def ask():
        with httpx.Client(timeout=30) as http:
            while not over.is_set():
                http.post(f"{url}/endpoints/iris/invocations", content=BODY, headers=JSON)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


def roll_out(url, version):
    options = ("--steps", "50,100", "--every", "1s", "--requests", "20", "--patience", "5m", "--watch", "1s")
    return CliRunner().invoke(cli, ["rollout", "iris", str(version), *options, "--server", url])


def test_a_bad_version_is_put_back_and_a_good_one_becomes_champion_with_no_human(server):
    with callers(server.url):
        bad = roll_out(server.url, 3)
        assert bad.exit_code == 1, bad.output
        assert "failures: " in str(bad.exception)
        status = Client(server.url).endpoint("iris")
        assert (status["desired"], status["shares_bp"]) == ({"champion": 1}, {"champion": 10_000})
        good = roll_out(server.url, 2)
    assert good.exit_code == 0, (good.output, good.exception)
    assert "succeeded, step 2 of 2" in good.output
    # The split, the champion and the alias in one epoch.
    wait_until_served(server.url, "iris", champion=2, challenger=2)
    assert Client(server.url).endpoint("iris")["shares_bp"] == {"champion": 10_000, "challenger": 0}
