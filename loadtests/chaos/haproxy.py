"""A real HAProxy before several replicas, which asks each whether it is ready: Debian's package, on loopback."""

import csv
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.cli.server_process import free_port

CHECK_INTERVAL_S = 0.2
"""How often each replica is asked. Two refusals in a row take it off; one answer takes it on again."""

_START_TIMEOUT_S = 20.0
_POLL_S = 0.02

# Without retries, so that what HAProxy would mend by itself is counted as what it is.
_CONFIGURATION = """
global
    stats socket {folder}/haproxy.sock

defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s

frontend callers
    bind 127.0.0.1:{port}
    default_backend replicas

backend replicas
    balance roundrobin
    option httpchk
    http-check send meth GET uri /ready ver HTTP/1.1 hdr Host localhost
    default-server check inter {interval_ms}ms fall 2 rise 1
{servers}
"""


class Haproxy:
    """A running balancer: where callers reach it, and what it thinks of its replicas."""

    def __init__(self, folder: Path, port: int) -> None:
        self._socket = folder / "haproxy.sock"
        self.url = f"http://127.0.0.1:{port}"

    def until_up(self, port: int, timeout_s: float = 20.0) -> None:
        """Wait until the replica at *port* gets requests."""
        deadline_s = time.monotonic() + timeout_s
        while not self._is_up(port):
            assert time.monotonic() < deadline_s, f"HAProxy doesn't take {port} for ready"
            time.sleep(_POLL_S)

    def _is_up(self, port: int) -> bool:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self._socket))
            line.sendall(b"show stat\n")
            with line.makefile() as answer:
                rows = list(csv.DictReader(answer))
        return any(row["svname"] == f"replica-{port}" and row["status"].startswith("UP") for row in rows)


def haproxy_program() -> str | None:
    """Where it is installed; Debian puts it where not every user's PATH leads."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


@contextmanager
def running_haproxy(ports: Sequence[int]) -> Iterator[Haproxy]:
    """HAProxy before the replicas at *ports* of loopback.

    Raises:
        RuntimeError: if it isn't installed or doesn't start.
    """
    program = haproxy_program()
    if program is None:
        raise RuntimeError("There is no HAProxy: apt-get install haproxy.")
    port = free_port()
    servers = "\n".join(f"    server replica-{each} 127.0.0.1:{each}" for each in ports)
    # Short, because a socket's path may have about 100 characters.
    with tempfile.TemporaryDirectory(prefix="titlebout-haproxy-") as name:
        folder = Path(name)
        (folder / "haproxy.cfg").write_text(
            _CONFIGURATION.format(folder=folder, port=port, interval_ms=int(CHECK_INTERVAL_S * 1000), servers=servers)
        )
        log = folder / "haproxy.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "-db", "-f", str(folder / "haproxy.cfg")], stdout=output, stderr=output
            )
        try:
            _until_there(process, folder / "haproxy.sock", log)
            yield Haproxy(folder, port)
        finally:
            process.terminate()
            process.wait()


def _until_there(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"HAProxy did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(_POLL_S)
