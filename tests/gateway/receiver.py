"""A real receiver of webhooks on loopback, which checks nothing and remembers everything."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Received(NamedTuple):
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers with the statuses it is given, the last one for good."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses = [200]
        self._received: queue.Queue[Received] = queue.Queue()

    def take(self, timeout_s: float = 20.0) -> Received:
        """The next call, waited for."""
        return self._received.get(timeout=timeout_s)

    def idle(self) -> bool:
        return self._received.empty()

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        self._received.put(Received(headers, body))
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.receive({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", receiver.url + "/elsewhere")
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"thanks!")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
