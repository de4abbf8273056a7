"""A stand-in for the gateway's scoring path, which answers as the test wants it to."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], object]
"""Status, headers, and a body that is sent as JSON."""


@contextlib.contextmanager
def standing_in(answer: Callable[[list[object], str | None], Answer]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one segment: two of them wait 40 ms for the client's delayed acknowledgement.
        wbufsize = 64 * 1024

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
            status, headers, body = answer(rows, self.headers["X-Titlebout-Unit"])
            self._send(status, headers, json.dumps(body).encode())

        def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                # As the gateway's ASGI server sends them.
                self.send_header(name.lower(), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        # Connections beyond the queue, of five by default, are tried again only after a second.
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    # Users hang up when the test ends; that is no error of the stand-in's.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # an instance's own is enough
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
