"""Model hosts that misbehave harm themselves alone, and are replaced."""

import os
import signal
import time

import httpx
import pytest

from gateway.cli.client import Client
from gateway.cli.server_process import free_port, server_process
from tests.gateway.events import events
from tests.gateway.test_serving import ask, descendants, hosts_of, wait_until, wait_until_served
from tests.training import constant_classifier, mlflow, register, register_function, set_alias

pytestmark = pytest.mark.e2e

MEMORY_BYTES_MAX = 400 * 1024**2


def misbehaving():
    """A model that does what its input says. A class of a function, so that it is pickled by value."""

    class Misbehaving(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import ctypes
            import os
            import time

            import numpy as np

            (wish,) = np.asarray(model_input).ravel()
            match wish:
                case "hang":
                    time.sleep(600)
                case "exit":
                    os._exit(3)
                case "crash":
                    ctypes.string_at(0)
                case "raise":
                    raise RuntimeError("the model's own words")
                case "allocate 4 GiB":
                    np.ones(4 * 2**27)
                case "leak 50 MiB":
                    self.__dict__.setdefault("leaked", []).append(np.ones(50 * 2**17))
            return ["fine"]

    return Misbehaving()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """A server for several tests, each of which leaves `iris` and the misbehaving `odd` as they were."""
    bounds = {
        "TITLEBOUT_PREDICT_TIMEOUT_S": "2",
        "TITLEBOUT_HOST_MEMORY_BYTES_MAX": str(MEMORY_BYTES_MAX),
    }
    with server_process(tmp_path_factory.mktemp("two"), port=free_port(), environment=bounds) as server:
        register(server.url, "iris", constant_classifier(0))
        register_function(server.url, "odd", misbehaving())
        for name in ("iris", "odd"):
            set_alias(server.url, name, "champion", 1)
            wait_until_served(server.url, name, champion=1)
        yield server


@pytest.fixture(scope="module")
def unhurried(tmp_path_factory):
    """A server that is quick to give up on a load, and to try again."""
    bounds = {
        "TITLEBOUT_LOAD_TIMEOUT_S": "8",
        "TITLEBOUT_RETRY_FIRST_S": "0.2",
        "TITLEBOUT_HOST_MEMORY_BYTES_MAX": str(MEMORY_BYTES_MAX),
    }
    with server_process(tmp_path_factory.mktemp("unhurried"), port=free_port(), environment=bounds) as server:
        yield server


def test_whatever_a_models_predict_does_is_its_own_requests_failure_and_its_host_is_replaced(two_models):
    url = two_models.url

    def wish(text):
        return httpx.post(f"{url}/endpoints/odd/invocations", json={"inputs": [text]}, timeout=30)

    def replaced_s():
        """How long it takes from now until the model answers again; nobody else notices."""
        began_s = time.monotonic()
        while not wish("be fine").is_success:
            assert time.monotonic() - began_s < 60
            assert ask(url).is_success
        return time.monotonic() - began_s

    assert wish("be fine").json() == {"predictions": ["fine"]}
    hosts = hosts_of(two_models)

    raised = wish("raise")
    assert (raised.status_code, raised.json()["error_code"]) == (500, "INTERNAL_ERROR")
    assert "the model's own words" not in raised.text
    assert "the model's own words" in two_models.log
    assert raised.headers["X-Request-Id"] in two_models.log
    (said,) = events(two_models, "predict_failed", model="odd")
    assert said["version"] == 1
    assert wish("be fine").is_success

    assert wish("allocate 4 GiB").status_code == 500
    assert "MemoryError" in two_models.log
    assert wish("be fine").is_success
    assert hosts_of(two_models) == hosts

    assert wish("exit").status_code == 503
    assert replaced_s() < 10
    assert "ended by itself with status 3" in two_models.log

    assert wish("crash").status_code == 503
    assert replaced_s() < 10
    assert "ended by SIGSEGV" in two_models.log

    before = hosts_of(two_models)
    hung = wish("hang")
    assert hung.status_code == 504
    assert 2 <= hung.elapsed.total_seconds() < 10, "the deadline is what a prediction may take, 2 s"
    assert replaced_s() < 10
    assert len(hosts_of(two_models) - before) == 1

    wait_until(lambda: not wish("leak 50 MiB").is_success)
    assert ask(url).is_success
    assert replaced_s() < 10
    assert "MiB of memory, and was ended: 400 MiB are the most" in two_models.log


def test_a_host_that_goes_on_ending_is_replaced_later_and_later(unhurried):
    server = unhurried
    register_function(server.url, "ending", misbehaving())
    set_alias(server.url, "ending", "champion", 1)
    wait_until_served(server.url, "ending", champion=1)

    def pauses():
        return [line["next_try_in_s"] for line in events(server, "slot_changed", model="ending", state="FAILED")]

    def end_it():
        ask(server.url, "ending", b'{"inputs": ["exit"]}')
        return len(pauses()) >= before + 7

    # On a busy machine its libraries may take more than one try to come in.
    before = len(pauses())
    wait_until(end_it)
    # At once, some more times soon, and then after pauses that double.
    assert pauses()[before : before + 7] == [0, 0.2, 0.2, 0.2, 0.2, 0.4, 0.8]


def failing(fault):
    """A model that can be logged and can't be loaded, because of *fault*."""

    class Failing(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            import ctypes
            import os
            import time

            import numpy as np

            if "TRAINING" in os.environ:
                return
            match fault:
                case "raises":
                    raise RuntimeError("no such feature")
                case "exits":
                    os._exit(3)
                case "crashes":
                    ctypes.string_at(0)
                case "hangs":
                    time.sleep(600)
                case "allocates":
                    np.ones(4 * 2**27)
                case "eats memory":
                    eaten = []
                    while True:
                        eaten.append(np.ones(20 * 2**17))
                        time.sleep(0.02)

        def predict(self, context, model_input, params=None):
            import os

            if fault == "fails its warm-up" and "TRAINING" not in os.environ:
                raise ValueError("cold")
            return ["fine"]

    return Failing()


def test_a_version_that_cannot_be_loaded_takes_nothing_from_the_champion_shows_why_and_is_not_hurried(
    unhurried, monkeypatch
):
    server, client = unhurried, Client(unhurried.url)
    monkeypatch.setenv("TRAINING", "1")
    register_function(server.url, "odd", misbehaving())
    set_alias(server.url, "odd", "champion", 1)
    wait_until_served(server.url, "odd", champion=1)

    for version, (fault, said) in enumerate(
        {
            "raises": "RuntimeError: no such feature",
            "exits": "ended by itself with status 3",
            "crashes": "ended by SIGSEGV",
            "hangs": "not ready after 8 s",
            "allocates": "MemoryError",
            "eats memory": "was ended: 400 MiB are the most (TITLEBOUT_HOST_MEMORY_BYTES_MAX)",
            "fails its warm-up": "ValueError: cold",
        }.items(),
        start=2,
    ):
        assert register_function(server.url, "odd", failing(fault), input_example=["x"]) == version
        set_alias(server.url, "odd", "champion", version)
        problems = wait_until(lambda: client.endpoint("odd")["problems"])
        assert f"version {version}" in problems[0], fault
        assert said in problems[0], fault
        assert client.endpoint("odd")["serving"] == {"champion": 1}
        assert ask(server.url, "odd", b'{"inputs": ["be fine"]}').json() == {"predictions": ["fine"]}

    def pauses():
        failed = events(server, "slot_changed", model="odd", state="FAILED", version=8)
        return [event["next_try_in_s"] for event in failed]

    wait_until(lambda: len(pauses()) >= 4)
    assert pauses()[:4] == [0.2, 0.4, 0.8, 1.6]


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


def forging():
    """A model whose code writes nonsense to its worker, where its answers go."""

    class Forging(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import os
            import socket
            import stat

            import numpy as np

            if np.asarray(model_input).ravel()[0] != "forge":
                return ["fine"] * len(model_input)
            for fd in range(3, 64):
                try:
                    is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
                except OSError:
                    continue
                if not is_socket:
                    continue
                line = socket.socket(fileno=os.dup(fd))
                # Its worker's connections bear the name of where it listens; its line to the supervisor has none.
                if line.getsockname() and not line.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            return ["forged"]

    return Forging()


def test_a_forged_frame_ends_its_host_and_not_the_worker(two_models):
    server = two_models
    register_function(server.url, "forging", forging())
    set_alias(server.url, "forging", "champion", 1)
    wait_until_served(server.url, "forging", champion=1)
    workers, hosts = descendants(server, "gateway.worker").keys(), hosts_of(server)
    assert ask(server.url, "forging", b'{"inputs": ["forge"]}').status_code == 503
    assert ask(server.url).json() == {"predictions": [0]}
    wait_until(lambda: len(hosts_of(server) - hosts) == 1)
    wait_until(lambda: ask(server.url, "forging", b'{"inputs": ["be fine"]}').is_success)
    assert events(server, "host_broken", model="forging")
    assert len(hosts_of(server)) == len(hosts_of(server) & hosts) + 1 == len(hosts)
    assert descendants(server, "gateway.worker").keys() == workers


def forging_its_description():
    """A model whose code says to the supervisor, in its host's place, that it is ready and what it is."""

    class ForgingItsDescription(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            import os
            import socket
            import stat
            import time

            from gateway.pool.messages import ModelDescription, Ready, encode_line

            ready = Ready(ModelDescription(flavor="python_function", predictor="x", batchable=True, mlmodel="none"))
            for fd in range(3, 64):
                try:
                    line = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(os.fstat(fd).st_mode) else None
                except OSError:
                    continue
                if line is not None and not line.getsockname():
                    line.sendall(encode_line(ready))
            time.sleep(600)

        def predict(self, context, model_input, params=None):
            return []

    return ForgingItsDescription()


def test_a_forged_description_ends_its_host_and_keeps_no_other_version_from_service(two_models):
    server = two_models
    register(server.url, "flower", constant_classifier(0))
    register(server.url, "flower", constant_classifier(1))
    register_function(server.url, "describing", forging_its_description())
    set_alias(server.url, "flower", "champion", 1)
    wait_until_served(server.url, "flower", champion=1)
    set_alias(server.url, "describing", "champion", 1)
    wait_until(lambda: events(server, "host_broken", model="describing"))
    set_alias(server.url, "flower", "champion", 2)
    wait_until_served(server.url, "flower", champion=2)
    assert ask(server.url, "flower").json() == {"predictions": [1]}
    assert httpx.post(f"{server.url}/api/1.0/titlebout/endpoints/describing/stop").is_success
