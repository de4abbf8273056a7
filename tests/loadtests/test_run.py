"""The load test itself is tested against a stand-in that speaks the scoring answer, rightly or wrongly."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers import free_port

pytestmark = pytest.mark.e2e

_ROOT = Path(__file__).parents[2]

Answer = tuple[int, dict[str, str], object]


def right_answer(rows: list[object], unit: str | None) -> Answer:
    share = sha256(unit.encode()).digest()[0] if unit else os.urandom(1)[0]
    arm = "champion" if share < 205 else "challenger"
    headers = {
        "X-Titlebout-Arm": arm,
        "X-Titlebout-Version": "1" if arm == "champion" else "2",
        "X-Titlebout-Epoch": "1",
    }
    return 200, headers, {"predictions": [0] * len(rows)}


def one_row_short(rows: list[object], unit: str | None) -> Answer:
    status, headers, _ = right_answer(rows, unit)
    # The first question, of one row, is answered rightly: the fault must be found under load.
    return status, headers, {"predictions": [0] * max(1, len(rows) - 1)}


def forgetful_of_units(rows: list[object], _unit: str | None) -> Answer:
    return right_answer(rows, None)


def no_endpoint(_rows: list[object], _unit: str | None) -> Answer:
    return 404, {}, {"error_code": "ENDPOINT_NOT_FOUND", "message": "There is no endpoint; there are: churn."}


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
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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


def loadtest(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.run", "--url", url, "--users", "8", "--duration-s", "1", *options]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_right_answers_within_the_slo_pass_and_show_the_figures():
    with standing_in(right_answer) as url:
        done = loadtest(url, "--p99-ms", "5000")
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in ("requests", "p50", "p95", "p99", "champion", "challenger", "SLO kept"):
        assert figure in done.stdout


def test_a_breached_slo_fails():
    with standing_in(right_answer) as url:
        done = loadtest(url, "--p99-ms", "0.001")
    assert done.returncode == 1
    assert "SLO BREACHED: p99 is" in done.stderr


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        pytest.param(one_row_short, "predictions for", id="a prediction short"),
        pytest.param(forgetful_of_units, "a unit moved from", id="units that don't keep their arm"),
    ],
)
def test_wrong_answers_fail_although_their_status_is_200(answer, what):
    with standing_in(answer) as url:
        done = loadtest(url, "--p99-ms", "5000")
    assert done.returncode == 1
    assert what in done.stdout
    assert "requests failed" in done.stderr


def test_a_server_that_is_not_there_is_one_clear_sentence():
    done = loadtest(f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "make serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_endpoint_is_told_in_the_servers_own_words():
    with standing_in(no_endpoint) as url:
        done = loadtest(url)
    assert done.returncode == 2
    assert "there are: churn" in done.stderr
