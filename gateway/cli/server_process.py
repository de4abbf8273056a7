"""A Titlebout in a process of its own, for the tour and for tests: started on a free port, stopped in order."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tracking.errors import ErrorCode, ServingError

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.05
_LOG = "serve.log"


class ServerDidNotStart(ServingError):
    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, log: str) -> None:
        super().__init__(f"The server did not start. The end of its log:\n{log[-2000:]}")


class ServerProcess:
    """A running `titlebout serve`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, data: Path) -> None:
        self.process = process
        self.url = url
        self.data = data

    @property
    def log(self) -> str:
        return (self.data / _LOG).read_text(errors="replace")

    def until_it_says_yes(self, path: str = "/ready", timeout_s: float = _START_TIMEOUT_S) -> None:
        """Wait until *path* answers 200: ``/ready`` once predictions could be answered, ``/health`` before that.

        Raises:
            ServerDidNotStart: with the end of the log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(self.url + path, timeout=5).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(_POLL_S)
        raise ServerDidNotStart(self.log)

    def stop(self, by: int = signal.SIGTERM) -> int:
        """Signal, wait, and its exit status; killed if it doesn't end in time."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def server_process(
    data: Path,
    *options: str,
    port: int,
    environment: Mapping[str, str] | None = None,
    start_timeout_s: float = _START_TIMEOUT_S,
    started_by: str = "/ready",
) -> Iterator[ServerProcess]:
    """`titlebout serve` on *port* with everything below *data*; its log is ``serve.log`` there."""
    data.mkdir(parents=True, exist_ok=True)
    log = data / "serve.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TITLEBOUT_", "MLFLOW_"))}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway.cli", "serve"),
                *("--data", str(data), "--port", str(port), "--log-format", "json", *options),
            ],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env={**inherited, **(environment or {})},
        )
    server = ServerProcess(process, f"http://127.0.0.1:{port}", data)
    try:
        server.until_it_says_yes(started_by, start_timeout_s)
        yield server
    finally:
        # The quick one: nobody is about to ask any more.
        server.stop(signal.SIGINT)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
