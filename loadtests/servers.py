"""A server under measure: a process of its own on loopback, started and stopped as often as is needed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from gateway.cli.server_process import free_port

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.01


class Server:
    """Its folder, which it makes, and its port stay the same from one start to the next."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it isn't running"
        return self._process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def answers(self) -> bool:
        """Whether it does what it is there for, asked once."""
        raise NotImplementedError

    def start(self) -> float:
        """Start, and return the seconds to the first answer.

        Raises:
            RuntimeError: with the end of its log, if it ends or says nothing in time.
        """
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
            if self.answers():
                return time.perf_counter() - began_s
            time.sleep(_POLL_S)
        raise RuntimeError(f"{self.name} did not start: {self.log_end()}")

    def log_end(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

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


def titlebout_command(folder: Path, port: int) -> list[str]:
    """`titlebout serve` as its users start it, with everything below *folder*."""
    return [
        *(sys.executable, "-m", "gateway.cli", "serve"),
        *("--data", str(folder), "--port", str(port), "--log-format", "json"),
    ]


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
