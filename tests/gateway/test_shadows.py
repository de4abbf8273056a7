"""A shadow on a real server: whatever it does, others answer as they would without it, and it is told what it did."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from click.testing import CliRunner
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from gateway.cli import cli
from gateway.cli.client import Client
from gateway.cli.server_process import free_port, server_process
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import mlflow, register_function, set_alias

pytestmark = pytest.mark.e2e

WAITING_MAX = 8
HANGS, FAILS = -2.0, -1.0
SIGNATURE = ModelSignature(inputs=Schema([ColSpec("double", "x")]), outputs=Schema([ColSpec("double")]))


def moody(*, is_shadow):
    """Doubles what it is given; as a shadow it answers from 100 on otherwise, and some values with nothing at all.

    A class of a function, so that it is pickled by value.
    """

    class Moody(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import time

            values = model_input["x"].to_numpy()
            if is_shadow and (values == HANGS).any():
                time.sleep(3_600)
            if is_shadow and (values == FAILS).any():
                raise RuntimeError("it never could")
            return values * 2 + (values // 100 if is_shadow else 0)

    return Moody()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environment = {
        "TITLEBOUT_PREDICT_TIMEOUT_S": "3",
        "TITLEBOUT_SHADOW_WAITING_MAX": str(WAITING_MAX),
    }
    with server_process(tmp_path_factory.mktemp("shadows"), port=free_port(), environment=environment) as server:
        options = {"signature": SIGNATURE, "metadata": {"titlebout.batchable": True}}
        register_function(server.url, "moody", moody(is_shadow=False), **options)
        register_function(server.url, "moody", moody(is_shadow=True), **options)
        set_alias(server.url, "moody", "champion", 1)
        set_alias(server.url, "moody", "challenger", 2)
        wait_until_served(server.url, "moody", champion=1, challenger=2)
        yield server


def have_shadowed(url, **wanted):
    client = Client(url)
    client.set_shadow("moody", {"arm": "challenger", **wanted})
    wait_until(lambda: client.shadow("moody")["is_in_force"])
    return client


def ask(url, *values):
    """Ask for each of *values*, several at a time; all must be answered as the champion does."""
    body = [{"dataframe_split": {"columns": ["x"], "data": [[value]]}} for value in values]
    with httpx.Client(base_url=url, timeout=30) as http, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda one: http.post("/endpoints/moody/invocations", json=one), body))
    assert [answer.json() for answer in answers] == [{"predictions": [2 * value]} for value in values]
    assert {answer.headers["X-Titlebout-Arm"] for answer in answers} == {"champion"}


def beside(client):
    """What is known of the shadow beside the champion; zeros before anything is."""
    (pair,) = client.shadow("moody")["beside"] or [dict.fromkeys(("compared", "agreed", "failed", "dropped"), 0)]
    return pair


def asked(client):
    pair = beside(client)
    return pair["compared"] + pair["failed"] + pair["dropped"]


def titlebout(url, *arguments):
    done = CliRunner().invoke(cli, [*arguments, "--server", url], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_shadow_that_fails_hangs_and_disagrees_touches_no_answer_and_is_counted_for_it(server):
    client = have_shadowed(server.url)
    # One after the other, so that none is dropped.
    for number in range(4):
        ask(server.url, 1.0, 100.0, 250.0, FAILS)
        wait_until(lambda count=4 * (number + 1): asked(client) == count)
    pair = beside(client)
    assert (pair["compared"], pair["agreed"], pair["dropped"]) == (12, 4, 0)
    assert pair["failures"] == {"INTERNAL_ERROR": 4}
    (output,) = pair["outputs"]
    assert (output["mean"], output["mean_absolute"], output["largest"]) == (1.0, 1.0, 2.0)
    assert pair["latency"]["requests"] > 0
    assert client.shadow_inputs("moody") == []

    # It hangs: what comes meanwhile finds no room, and is answered all the same.
    ask(server.url, HANGS)
    ask(server.url, *[1.0] * (3 * WAITING_MAX))
    wait_until(lambda: beside(client)["dropped"])
    wait_until(lambda: asked(client) == 16 + 1 + 3 * WAITING_MAX)
    assert beside(client)["failures"].get("DEADLINE_EXCEEDED")

    client = have_shadowed(server.url, keep_inputs=2)

    def kept():
        # Its process is being replaced, and whatever it is asked meanwhile counts as a failure.
        ask(server.url, 100.0, 300.0, 200.0, 1.0)
        return [(one["input"], one["given"], one["shadows"]) for one in client.shadow_inputs("moody")]

    wait_until(lambda: kept() == [({"x": 300.0}, 600.0, 603.0), ({"x": 200.0}, 400.0, 402.0)])
    shown = titlebout(server.url, "shadow", "moody")
    assert "champion, version 1" in shown
    assert "at most" in shown
    assert "challenger (shadow)" in titlebout(server.url, "status")
    counted = wait_until(
        lambda: [line for line in httpx.get(f"{server.url}/metrics").text.splitlines() if "gateway_shadow" in line]
    )
    assert {outcome for line in counted for outcome in ("agreed", "differed", "failed", "dropped") if outcome in line}
    assert "no shadow" in titlebout(server.url, "shadow", "moody", "--off")
    assert client.shadow_inputs("moody") == []
