"""Both servers as their users start them: processes of their own on loopback, each with a database of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPException
from pathlib import Path

from gateway.cli.server_process import free_port
from loadtests.tracking.wire import call

_MLFLOW = Path(".venv-mlflow/bin/mlflow")
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.01


class Server:
    """One of the two. `start` and `stop` it as often as needed: its folder and its port stay."""

    name = ""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it isn't running"
        return self._process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> float:
        """Start, and return the seconds to the first answered search for experiments."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TITLEBOUT_", "MLFLOW_"))
        }
        began_s = time.perf_counter()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited, **self.environment()},
                # A group of its own, so that whatever it started ends with it.
                start_new_session=True,
            )
        while time.perf_counter() - began_s < _START_TIMEOUT_S:
            if self._process.poll() is not None:
                break
            if self._answers():
                return time.perf_counter() - began_s
            time.sleep(_POLL_S)
        raise RuntimeError(f"{self.name} did not start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def _answers(self) -> bool:
        try:
            call(self.port, "POST", "/api/2.0/mlflow/experiments/search", {"max_results": 10})
        except (OSError, HTTPException):
            return False
        return True

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # What outlived it; most often nothing.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None
        _until_free(self.port)


class Titlebout(Server):
    name = "Titlebout"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "gateway.cli", "serve", "--data", str(self.folder), "--port", str(self.port)),
            *("--database-url", self.database_url, "--migrate", "--log-format", "json"),
        ]


class Genuine(Server):
    """``mlflow server``, with one worker and without the processes for jobs, which no row here needs."""

    name = "mlflow server"

    def command(self) -> list[str]:
        # The driver that its own environment has.
        database_url = self.database_url.replace("postgresql://", "postgresql+psycopg2://")
        return [
            *(str(_MLFLOW.absolute()), "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", database_url, "--artifacts-destination", str(self.folder / "artifacts")),
        ]

    def environment(self) -> dict[str, str]:
        return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _until_free(port: int) -> None:
    deadline_s = time.perf_counter() + _STOP_TIMEOUT_S
    while time.perf_counter() < deadline_s:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                time.sleep(_POLL_S)
            else:
                return
    raise RuntimeError(f"Port {port} was not given back.")
