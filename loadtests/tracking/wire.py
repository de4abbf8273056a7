"""The client: raw keep-alive connections in one thread, so that it takes little of the shared processor."""

import http.client
import json
import re
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Requests = Callable[[int], Iterator[bytes]]
"""For a connection's number, what it sends one after the other."""

_TIMEOUT_S = 120.0
_BLOCK_BYTES = 1024 * 1024
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class RequestFailed(RuntimeError):
    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__(f"A server answered {head[:200]!r}: {body[:500]!r}")


class Round(NamedTuple):
    """What one server did while it was loaded."""

    took_s: float
    latencies_s: list[float]


def request(method: str, path: str, body: object = None) -> bytes:
    """One request as it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def drive(port: int, requests: Requests, *, connections: int, duration_s: float) -> Round:
    """Keep every connection busy for *duration_s*; what is then on its way is waited for, and counted."""
    latencies_s: list[float] = []
    began_s = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for number in range(connections):
            connection = _Connection(port, requests(number))
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send_next()
        while selector.get_map():
            ready = selector.select(_TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"No answer came for {_TIMEOUT_S:g} s.")
            for key, _ in ready:
                connection = key.data
                if not connection.receive():
                    continue
                now_s = time.perf_counter()
                latencies_s.append(now_s - connection.sent_s)
                if now_s - began_s < duration_s:
                    connection.send_next()
                else:
                    selector.unregister(connection.socket)
                    connection.socket.close()
    return Round(time.perf_counter() - began_s, latencies_s)


class _Connection:
    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_s = 0.0
        self._requests = requests
        self._received = bytearray()
        self._expected = 0

    def send_next(self) -> None:
        content = next(self._requests)
        self._received.clear()
        self._expected = 0
        self.sent_s = time.perf_counter()
        self.socket.sendall(content)

    def receive(self) -> bool:
        """Take what is there; whether the answer is whole."""
        part = self.socket.recv(_BLOCK_BYTES)
        if not part:
            raise ConnectionError("A server closed a kept connection.")
        self._received += part
        if not self._expected:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = _LENGTH.search(self._received, 0, end + 2)
            self._expected = end + 4 + (int(length[1]) if length else 0)
            if not self._received.startswith(b"HTTP/1.1 200"):
                raise RequestFailed(bytes(self._received[:end]), bytes(self._received[end + 4 :]))
        return len(self._received) >= self._expected


def call(port: int, method: str, path: str, body: object = None) -> Any:
    """One call outside of what is measured; its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content_back = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RequestFailed(str(answer.status).encode(), content_back)
        return json.loads(content_back or b"{}")
    finally:
        connection.close()


def send_file(port: int, path: str, file: Path) -> float:
    """PUT a file; the seconds it took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S, blocksize=_BLOCK_BYTES)
    began_s = time.perf_counter()
    with file.open("rb") as content:
        connection.request("PUT", path, content, {"Content-Length": str(file.stat().st_size)})
        answer = connection.getresponse()
        said = answer.read()
    took_s = time.perf_counter() - began_s
    connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise RequestFailed(str(answer.status).encode(), said)
    return took_s


def take(port: int, path: str) -> tuple[float, int]:
    """GET and throw away; the seconds it took, and how many bytes came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    block, size = bytearray(_BLOCK_BYTES), 0
    began_s = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    while count := answer.readinto(block):
        size += count
    took_s = time.perf_counter() - began_s
    connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise RequestFailed(str(answer.status).encode(), bytes(block[:size]))
    return took_s, size
