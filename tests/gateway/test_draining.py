"""A server that stops answers whoever was about to ask, says that it was the last time, and keeps what it promised."""

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager

import pytest
import uvicorn

from gateway.draining import DrainingServer
from gateway.main import listen

LONG_S = 20.0


class App:
    """Answers `/` at once; `/slow` once it may; `/stream` begins at once and ends once it may."""

    def __init__(self):
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        if scope["path"] == "/slow":
            self.reached.set()
            await self.go_on.wait()
        await send(start)
        if scope["path"] == "/stream":
            self.reached.set()
            await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"ok"})


class Served:
    def __init__(self, app, server, listener, ending):
        self.app = app
        self.server = server
        self.port = listener.getsockname()[1]
        self.ending = ending
        self.connections = []

    async def connect(self):
        connection = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections.append(connection)
        return connection

    async def close(self):
        for _, writer in self.connections:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def served(*, drain_timeout_s=LONG_S):
    """The server on a loop of the test's, with whether it has ended; stopped at the end, whatever was left open."""
    app, started = App(), asyncio.Event()
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, timeout_keep_alive=60)
    server = DrainingServer(config, drain_timeout_s=drain_timeout_s, started=started.set)
    ending = asyncio.create_task(server.serve(sockets=[listener]))
    it = Served(app, server, listener, ending)
    try:
        async with asyncio.timeout(LONG_S):
            await started.wait()
            yield it
    finally:
        app.go_on.set()
        server.drain(0)
        await it.close()
        await ending


def send(connection, path="/"):
    connection[1].write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


async def answer(connection):
    """The status of the next answer, and whether it says that it is the connection's last."""
    head = await connection[0].readuntil(b"\r\n\r\n")
    assert await connection[0].readexactly(2) == b"ok"
    return int(head[9:12]), b"connection: close" in head


def test_who_is_about_to_ask_is_still_answered_and_told_that_it_was_the_last_time():
    async def scenario():
        async with served() as it:
            connection = await it.connect()
            send(connection)
            assert await answer(connection) == (200, False)
            it.server.drain(LONG_S)
            await asyncio.sleep(0.3)  # Well after the server has noticed.
            send(connection)
            assert await answer(connection) == (200, True)
            assert await connection[0].read() == b""
            # Nobody is left, so nobody is waited for.
            await asyncio.wait_for(it.ending, LONG_S / 2)

    asyncio.run(scenario())


def test_connections_that_ask_for_nothing_are_closed_after_their_grace():
    async def scenario():
        async with served() as it:
            used, fresh = await it.connect(), await it.connect()
            send(used)
            await answer(used)
            it.server.drain(0.2)
            assert [await used[0].read(), await fresh[0].read()] == [b"", b""]
            await asyncio.wait_for(it.ending, LONG_S / 2)

    asyncio.run(scenario())


def test_a_shorter_grace_counts_when_it_comes_later():
    async def scenario():
        async with served() as it:
            connection = await it.connect()
            it.server.drain(LONG_S)
            await asyncio.sleep(0.2)
            assert not it.ending.done()
            it.server.drain(0)
            assert await connection[0].read() == b""
            await asyncio.wait_for(it.ending, LONG_S / 2)

    asyncio.run(scenario())


def test_what_was_asked_before_is_answered_and_says_that_it_was_the_last():
    async def scenario():
        async with served() as it:
            connection = await it.connect()
            send(connection, "/slow")
            await it.app.reached.wait()
            it.server.drain(0)
            await asyncio.sleep(0.3)
            it.app.go_on.set()
            assert await answer(connection) == (200, True)

    asyncio.run(scenario())


def test_an_answer_that_has_begun_keeps_its_connection_for_one_more_request():
    async def scenario():
        async with served() as it:
            connection = await it.connect()
            send(connection, "/stream")
            await it.app.reached.wait()
            it.server.drain(LONG_S)
            await asyncio.sleep(0.3)
            it.app.go_on.set()
            assert await answer(connection) == (200, False)
            send(connection)
            assert await answer(connection) == (200, True)

    asyncio.run(scenario())


def test_new_connections_are_left_to_whoever_else_listens():
    async def scenario():
        async with served() as it:
            other = socket.socket(fileno=socket.dup(it.server.servers[0].sockets[0].fileno()))
            idle = await it.connect()
            it.server.drain(LONG_S)
            await asyncio.sleep(0.3)
            _, theirs = await it.connect()
            accepted, address = other.accept()
            assert address == theirs.get_extra_info("sockname")
            accepted.close()
            other.close()
            send(idle)
            assert await answer(idle) == (200, True)

    asyncio.run(scenario())


def test_a_request_that_hangs_holds_up_the_end_no_longer_than_it_may():
    async def scenario():
        async with served(drain_timeout_s=0.5) as it:
            connection = await it.connect()
            send(connection, "/slow")
            await it.app.reached.wait()
            it.server.drain(0)
            await asyncio.wait_for(it.ending, LONG_S / 2)

    asyncio.run(scenario())


def test_with_notice_given_requests_are_taken_and_connections_sent_elsewhere():
    async def scenario():
        async with served() as it:
            before = await it.connect()
            it.server.close_after_answers()
            for connection in (before, await it.connect()):
                send(connection)
                assert await answer(connection) == (200, True)
            # And still after the server has made its headers anew, which it does once a second.
            await it.server.on_tick(0)
            late = await it.connect()
            send(late)
            assert await answer(late) == (200, True)
            assert not it.ending.done()

    asyncio.run(scenario())


@pytest.fixture(autouse=True)
def _no_uvicorn_words(caplog):
    caplog.set_level("CRITICAL", "uvicorn.error")
