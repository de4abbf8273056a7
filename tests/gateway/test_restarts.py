"""Processes that come and go cost no request; processes that are killed, only those that they held."""

import asyncio
import json
import signal

import httpx
import pytest

from gateway.cli.client import Client
from gateway.cli.server_process import free_port, server_process
from loadtests.chaos.clients import Clients, while_asked
from loadtests.chaos.haproxy import haproxy_program, running_haproxy
from loadtests.chaos.kills import kill_hosts, kill_supervisor, kill_worker
from loadtests.chaos.restarts import (
    Replica,
    replace_worker_by_its_own_signal,
    replace_workers,
    roll,
    running,
)
from tests.conftest import SOON_GONE
from tests.gateway.test_serving import BODY, ask, wait_until, wait_until_served
from tests.training import constant_classifier, mlflow, register, register_function, set_alias

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATH = "/endpoints/iris/invocations"


def provide_iris(url):
    """Two versions of `iris`: version 1 answers 0, version 2 answers 1."""
    register(url, "iris", constant_classifier(0))
    register(url, "iris", constant_classifier(1))
    set_alias(url, "iris", "champion", 1)
    set_alias(url, "iris", "challenger", 2)
    wait_until_served(url, "iris", champion=1, challenger=2)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A data folder with `iris` in it, which the servers of these tests have one after the other."""
    data = tmp_path_factory.mktemp("registered") / "data"
    with server_process(data, port=free_port()) as server:
        provide_iris(server.url)
    return data


@pytest.fixture
def iris(serve, registered):
    return serve("--workers", "2", data=registered)


@pytest.fixture(scope="module")
def lasting_iris(tmp_path_factory):
    """The same, for tests that leave it as they found it: running."""
    data = tmp_path_factory.mktemp("lasting") / "data"
    with server_process(data, "--workers", "2", port=free_port(), environment=SOON_GONE) as server:
        provide_iris(server.url)
        yield server


def callers(server):
    # At their ease: what there is to see is seen by a few, and on connections that are idle.
    return Clients(server.url + PATH, BODY, pause_s=0.04)


# --- replaced


def test_workers_are_replaced_under_load_and_no_request_is_lost(lasting_iris):
    said_before = len(lasting_iris.log)
    clients = while_asked(callers(lasting_iris), lambda: replace_workers(lasting_iris, times=4))
    assert clients.failures == []
    lines = [json.loads(line) for line in lasting_iris.log[said_before:].splitlines()]
    # Each ended by its own hand.
    left = [line["status"] for line in lines if line["event"] in {"worker_left", "worker_ended", "worker_killed"}]
    assert left == [0] * 4


def test_a_worker_that_is_asked_to_end_waits_for_its_successor(serve, registered):
    server = serve(data=registered)
    clients = while_asked(callers(server), lambda: replace_worker_by_its_own_signal(server))
    assert clients.failures == []


def test_a_successor_answers_from_the_newest_table_at_once(lasting_iris):
    url = lasting_iris.url

    def flip_and_replace():
        for version in (2, 1):
            set_alias(url, "iris", "champion", version)
            replace_workers(lasting_iris, times=2)

    clients = while_asked(callers(lasting_iris), flip_and_replace)
    assert clients.failures == []
    epoch = Client(url).status()["epoch"]
    assert {int(ask(url).headers["X-Titlebout-Epoch"]) for _ in range(20)} == {epoch}


# --- stopped


def test_sigterm_finishes_what_was_asked_and_what_was_about_to_be(iris):
    clients = callers(iris)
    status = []
    while_asked(clients, lambda: status.append(iris.stop()))
    assert status == [0]
    # Nobody listens any more; whoever had been connected was answered.
    assert all(outcome.is_first and outcome.status == 0 for outcome in clients.failures)


def slow():
    """Takes its time where it is asked to. A class of a function, so that it is pickled by value."""

    class Slow(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import time

            time.sleep(4.5 if "slowly" in str(model_input) else 0)
            return model_input

    return Slow()


def test_sigterm_gives_notice_and_waits_for_slow_requests_and_sigint_is_quick(serve, tmp_path):
    # Longer than a busy machine takes for what is asked below, and shorter than the slow request.
    server = serve(environment={"TITLEBOUT_STOP_NOTICE_S": "3"})
    register_function(server.url, "slow", slow())
    set_alias(server.url, "slow", "champion", 1)
    wait_until(lambda: ask(server.url, "slow", b'{"inputs": ["at once"]}').is_success)
    body = b'{"inputs": ["slowly"]}'

    async def stop_while_it_answers():
        async with httpx.AsyncClient(timeout=30) as http:
            url = f"{server.url}/endpoints/slow/invocations"
            asked = asyncio.create_task(http.post(url, content=body, headers={"Content-Type": "application/json"}))
            await asyncio.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(wait_until, lambda: httpx.get(f"{server.url}/ready").status_code == 503)
            said = await http.get(f"{server.url}/ready")
            return await asked, said

    answer, said = asyncio.run(stop_while_it_answers())
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
    assert (said.json()["reason"], said.headers["Connection"]) == ("It is being stopped.", "close")
    assert server.process.wait(20) == 0

    again = serve(environment={"TITLEBOUT_STOP_NOTICE_S": "60"})
    with httpx.Client() as http:
        assert http.get(f"{again.url}/health").is_success  # A connection stays open, and isn't waited for.
        again.process.send_signal(signal.SIGINT)
        # Sooner than its notice, which would be over in a minute.
        assert again.process.wait(30) == 0


@pytest.mark.skipif(haproxy_program() is None, reason="HAProxy isn't installed (Debian's package haproxy)")
def test_replicas_behind_haproxy_are_restarted_under_load_and_no_request_is_lost(registered, tmp_path):
    shared = (
        *("--database-url", f"sqlite:///{registered}/titlebout.db"),
        *("--artifact-root", str(registered / "artifacts")),
    )
    replicas = [Replica(tmp_path / name, *shared) for name in ("first", "second")]
    with running(replicas), running_haproxy([replica.port for replica in replicas]) as haproxy:
        for replica in replicas:
            haproxy.until_up(replica.port)
        clients = while_asked(callers(haproxy), lambda: roll(replicas, haproxy, times=2))
    assert clients.failures == []


# --- killed


def test_a_killed_worker_takes_only_the_requests_that_it_held(lasting_iris):
    held = []
    clients = while_asked(callers(lasting_iris), lambda: held.extend(kill_worker(lasting_iris)))
    assert {outcome.port for outcome in clients.failures} <= set(held)
    url = lasting_iris.url
    epoch = Client(url).status()["epoch"]
    assert {int(ask(url).headers["X-Titlebout-Epoch"]) for _ in range(20)} == {epoch}


def test_a_killed_host_takes_only_the_requests_that_it_held(lasting_iris):
    killed_s = []
    clients = while_asked(callers(lasting_iris), lambda: killed_s.append(kill_hosts(lasting_iris)))
    # One for each connection at most, and sent before the workers could notice: who comes later waits for another host.
    assert all(outcome.status == 503 and outcome.began_s < killed_s[0] + 0.5 for outcome in clients.failures)
    assert len(clients.failures) <= 8


def test_a_killed_supervisor_leaves_no_process_and_whoever_was_connected_is_answered(iris):
    clients = callers(iris)
    while_asked(clients, lambda: kill_supervisor(iris))
    assert all(outcome.is_first and outcome.status == 0 for outcome in clients.failures)
