"""What the HTTP server makes of requests that offer another protocol, as Java's HTTP client does with each."""

import asyncio
import socket

import pytest
import uvicorn

from gateway.draining import DrainingServer
from gateway.http_protocol import StayingProtocol
from gateway.main import listen

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"


async def echo(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    said = f"[{scope['method']} {scope['path']} {body.decode()}]".encode()
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def post(path, body, headers=OFFER):
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n%s" % (path, headers, length, body)


def answers(*pieces, count):
    """The bodies that come back where *pieces* are sent one by one, or the status if it is none of 200."""

    async def exchange():
        listener, started = listen("127.0.0.1", 0), asyncio.Event()
        config = uvicorn.Config(echo, http=StayingProtocol, ws="none", lifespan="off", log_config=None)
        server = DrainingServer(config, drain_timeout_s=5, started=started.set)
        ending = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(20):
            await started.wait()
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.01)
            said = [await one_answer(reader) for _ in range(count)]
            writer.close()
            await writer.wait_closed()
        server.drain(0)
        await ending
        return said

    return asyncio.run(exchange())


async def one_answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    return body.decode() if b" 200 " in head.split(b"\r\n")[0] else head.split()[1].decode()


@pytest.mark.parametrize("cut_at", [None, 10, 75, 150, 175])
def test_a_request_that_offers_another_protocol_is_answered_with_all_of_its_body(cut_at):
    request = post(b"/a", b"hello world")
    pieces = [request] if cut_at is None else [request[:cut_at], request[cut_at:]]
    assert answers(*pieces, count=1) == ["[POST /a hello world]"]


def test_the_body_of_such_a_request_is_never_read_as_the_next_one():
    hidden = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    requests = [post(b"/a", hidden), post(b"/b", b"2"), post(b"/c", b"3", headers=b"")]
    expected = [f"[POST /a {hidden.decode()}]", "[POST /b 2]", "[POST /c 3]"]
    assert answers(b"".join(requests), count=3) == expected
    assert answers(*requests, count=3) == expected


def test_such_a_request_may_come_in_chunks_or_without_a_body():
    chunked = b"POST /a HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding: chunked\r\n\r\n" % OFFER
    bare = b"GET /b HTTP/1.1\r\nHost: x\r\n%s\r\n" % OFFER
    assert answers(chunked, b"5\r\nhello\r\n", b"0\r\n\r\n" + bare, count=2) == ["[POST /a hello]", "[GET /b ]"]


def test_who_asks_for_a_tunnel_or_speaks_no_http_is_refused():
    assert answers(b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", count=1) == ["400"]
    assert answers(b"nonsense\r\n\r\n", count=1) == ["400"]
