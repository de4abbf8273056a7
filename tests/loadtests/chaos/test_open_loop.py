"""A load that keeps to the clock: what it sends doesn't depend on what comes back, and it sees what a caller sees."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest
import uvloop

from gateway.cli.server_process import free_port
from loadtests.chaos.open_loop import OpenLoop, capacity_per_s, kinds, percentile, took_ms
from tests.loadtests.stand_in import standing_in

# Seconds of processes and clocks.
pytestmark = pytest.mark.slow

BODY = b'{"inputs": [[1.0]]}'
HEADERS = {"X-Titlebout-Version": "3", "X-Titlebout-Epoch": "12"}


def ask(url, *, for_s=0.4, rate_per_s=200.0, **options):
    """The load, after it has run for so long."""

    async def play():
        load = OpenLoop(f"{url}/x", BODY, rate_per_s=rate_per_s, **options)
        async with load.running():
            await asyncio.sleep(for_s)
        return load

    return uvloop.run(play())


def test_it_sends_at_its_rate_and_reads_who_answered():
    with standing_in(lambda rows, _: (200, HEADERS, {"predictions": rows})) as url:
        load = ask(url, for_s=1.0)
    assert 100 < len(load.outcomes) < 300
    assert load.failures == []
    assert {(o.status, o.version, o.epoch) for o in load.outcomes} == {(200, 3, 12)}
    assert {o.content for o in load.outcomes} == {b'{"predictions": [[1.0]]}'}
    # Over several connections, the first request of each told from the others.
    assert len({o.port for o in load.outcomes}) == sum(o.is_first for o in load.outcomes) > 1


def test_it_goes_on_sending_while_nothing_comes_back():
    go_on = threading.Event()

    def answer(rows, _):
        go_on.wait(20)
        return 200, {}, rows

    with standing_in(answer) as url:
        threading.Timer(0.5, go_on.set).start()
        load = ask(url, rate_per_s=100.0, connections=2)
    assert len(load.outcomes) > 20
    assert load.failures == []
    assert percentile(took_ms(load.outcomes), 100) > 300


def test_over_its_bound_of_connections_a_request_counts_as_failed():
    go_on = threading.Event()

    def answer(rows, _):
        go_on.wait(20)
        return 200, {}, rows

    with standing_in(answer) as url:
        threading.Timer(0.5, go_on.set).start()
        load = ask(url, rate_per_s=100.0, connections=2, connections_max=5)
    assert {o.fault for o in load.failures} == {"no connection left"}
    assert len(load.outcomes) - len(load.failures) >= 5


@contextmanager
def hanging_up_after(data):
    """A server that answers each request with *data* and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal", id="half a body"),
    ],
)
def test_an_answer_that_breaks_off_is_a_failure(data):
    with hanging_up_after(data) as url:
        load = ask(url, for_s=0.2, rate_per_s=50.0, connections=1)
    assert load.outcomes
    assert all(o.status == 0 and o.fault for o in load.outcomes)


def test_a_connection_that_is_closed_with_its_answer_is_not_used_again():
    with hanging_up_after(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n") as url:
        load = ask(url, for_s=0.2, rate_per_s=50.0, connections=1)
    assert load.outcomes
    assert load.failures == []
    assert all(o.is_first for o in load.outcomes)


def test_nobody_there_is_a_failure_of_each_request():
    load = ask(f"http://127.0.0.1:{free_port()}", for_s=0.2)
    assert load.outcomes
    assert kinds(load.outcomes) == f"{len(load.outcomes)} x ConnectionRefusedError"


def test_capacity_is_what_so_many_callers_get_answered():
    pause = threading.Event()

    def answer(rows, _):
        pause.wait(0.02)
        return 200, {}, rows

    with standing_in(answer) as url:
        per_s = capacity_per_s(f"{url}/x", BODY, connections=4, for_s=0.5)
    assert 20 < per_s <= 4 / 0.02 * 1.1


def test_a_percentile_is_the_value_that_so_many_do_not_exceed():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert percentile([1.0], 99) == 1.0
    assert percentile([], 50) != percentile([], 50)
