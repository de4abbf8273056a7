"""Model hosts that misbehave harm themselves alone, and are replaced."""

import os
import signal
import time

import httpx
import pytest

from tests.gateway.test_serving import ask, descendants, hosts_of, wait_until, wait_until_served
from tests.training import constant_classifier, mlflow, register, register_function, set_alias

pytestmark = pytest.mark.e2e


def misbehaving():
    """A model that does what its input says. A class of a function, so that it is pickled by value."""

    class Misbehaving(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import os
            import time

            import numpy as np

            (wish,) = np.asarray(model_input).ravel()
            if wish == "hang":
                time.sleep(600)
            if wish == "exit":
                os._exit(3)
            if wish == "raise":
                raise RuntimeError("the model's own words")
            return ["fine"]

    return Misbehaving()


@pytest.fixture
def two_models(serve):
    server = serve(environment={"TITLEBOUT_PREDICT_TIMEOUT_S": "2", "TITLEBOUT_RETRY_FIRST_S": "0.1"})
    register(server.url, "iris", constant_classifier(0))
    register_function(server.url, "odd", misbehaving())
    for name in ("iris", "odd"):
        set_alias(server.url, name, "champion", 1)
        wait_until_served(server.url, name, champion=1)
    return server


def test_a_model_that_raises_exits_or_hangs_fails_its_own_request_and_is_replaced(two_models):
    url = two_models.url

    def wish(text):
        return httpx.post(f"{url}/endpoints/odd/invocations", json={"inputs": [text]}, timeout=30)

    assert wish("be fine").json() == {"predictions": ["fine"]}

    raised = wish("raise")
    assert (raised.status_code, raised.json()["error_code"]) == (500, "INTERNAL_ERROR")
    assert "the model's own words" not in raised.text
    assert "the model's own words" in two_models.log
    assert raised.headers["X-Request-Id"] in two_models.log
    assert wish("be fine").is_success

    assert wish("exit").status_code == 503
    assert ask(url).is_success
    wait_until(lambda: wish("be fine").is_success)

    before = hosts_of(two_models)
    assert wish("hang").status_code == 504
    assert ask(url).is_success
    wait_until(lambda: wish("be fine").is_success)
    assert len(hosts_of(two_models) - before) == 1


def test_a_worker_that_takes_a_dead_ones_place_answers_its_first_request(two_models):
    (worker,) = descendants(two_models, "gateway.worker")
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = ask(two_models.url)
        except httpx.HTTPError:
            continue  # Nobody accepts yet.
        assert answer.json() == {"predictions": [0]}
        return
    pytest.fail("no worker came back")
