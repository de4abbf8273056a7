"""Answers that are sent in one piece look as uvicorn's own do, and whatever isn't plain is left to uvicorn."""

import asyncio

import pytest
import uvicorn

from gateway.draining import DrainingServer
from gateway.http_protocol import StayingProtocol
from gateway.main import listen
from gateway.whole_answers import find_offer


async def exchange(*requests, size=5):
    """What comes back until the server closes, and what each answer's sender was told."""
    told = []

    async def app(scope, receive, send):
        await receive()
        body = b"x" * size
        sent = find_offer(scope)(b"content-type: text/plain\r\n", body)
        told.append(sent)
        if not sent:
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(size).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    listener, started = listen("127.0.0.1", 0), asyncio.Event()
    config = uvicorn.Config(app, http=StayingProtocol, ws="none", lifespan="off", log_config=None, server_header=False)
    server = DrainingServer(config, drain_timeout_s=5, started=started.set)
    ending = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(20):
        await started.wait()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"".join(requests))
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
    server.drain(0)
    await ending
    return said, told


def get(*headers):
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: localhost", *headers, b"", b""])


@pytest.mark.parametrize("size", [5, 200_000])
def test_both_ways_say_the_same_and_a_connection_that_ends_is_left_to_uvicorn(size):
    said, told = asyncio.run(exchange(get(), get(), get(b"Connection: close"), size=size))
    assert told == [True, True, False]
    answers = said.split(b"HTTP/1.1 ")[1:]
    heads = [answer.split(b"\r\n\r\n")[0].splitlines() for answer in answers]
    bodies = [answer.split(b"\r\n\r\n")[1] for answer in answers]
    assert bodies == [b"x" * size] * 3
    assert heads[0] == heads[1]
    assert b"connection: close" in heads[2]
    without_date = [sorted(line for line in head if not line.startswith((b"date", b"connection"))) for head in heads]
    assert without_date[0] == without_date[2]
