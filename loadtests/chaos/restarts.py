"""Workers and replicas that are replaced while callers ask: nobody may notice."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gateway.cli.server_process import ServerProcess, free_port, server_process
from loadtests.chaos.haproxy import CHECK_INTERVAL_S, Haproxy
from loadtests.processes import family, name

_DEADLINE_S = 60.0
_POLL_S = 0.02

NOTICE_S = 10 * CHECK_INTERVAL_S
"""How long a replica goes on answering after it has begun to say that it isn't ready: several of HAProxy's checks."""


def workers_of(server: ServerProcess) -> set[int]:
    return {pid for pid in family(server.process.pid) if name(pid) == "gateway.worker"}


def until(holds: Callable[[], bool], what: str, *, poll_s: float = _POLL_S) -> None:
    deadline_s = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {_DEADLINE_S:g} s"
        time.sleep(poll_s)


def replace_workers(server: ServerProcess, *, times: int) -> int:
    """Have the supervisor replace all its workers until *times* or more were; how many that made."""
    replaced = 0
    while replaced < times:
        replaced += _replace_all(server)
    return replaced


def _replace_all(server: ServerProcess) -> int:
    before = workers_of(server)
    server.process.send_signal(signal.SIGHUP)
    until(lambda: _all_others(workers_of(server), before), "the replacement of all workers")
    return len(before)


def _all_others(now: set[int], before: set[int]) -> bool:
    return not now & before and len(now) == len(before)


def replace_worker_by_its_own_signal(server: ServerProcess) -> None:
    """Ask one worker itself to end, as a person would who knows no better."""
    before = workers_of(server)
    leaving = min(before)
    os.kill(leaving, signal.SIGTERM)
    until(lambda: leaving not in (now := workers_of(server)) and len(now) == len(before), "the replacement of a worker")


class Replica:
    """A Titlebout that keeps its port and its folder from one start to the next."""

    def __init__(self, data: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self._data = data
        self._options = options
        self._environment = {
            "TITLEBOUT_STOP_NOTICE_S": str(NOTICE_S),
            "TITLEBOUT_IDLE_GRACE_S": "1",
            **(environment or {}),
        }
        self._life = ExitStack()
        self.server: ServerProcess | None = None

    def start(self) -> ServerProcess:
        """Start, and wait until it is ready."""
        self.server = self._life.enter_context(
            server_process(self._data, *self._options, port=self.port, environment=self._environment)
        )
        return self.server

    def stop(self) -> None:
        """SIGTERM, and the end, which must be in order."""
        status = 0 if self.server is None else self.server.stop()
        self._life.close()
        assert status == 0, f"a replica ended with status {status}"

    def end(self) -> None:
        """At once, as nobody asks any more."""
        self._life.close()


@contextmanager
def running(replicas: Sequence[Replica]) -> Iterator[Sequence[Replica]]:
    """All of *replicas*, started one after the other."""
    with ExitStack() as life:
        for replica in replicas:
            life.callback(replica.end)
            replica.start()
        yield replicas


def roll(replicas: Sequence[Replica], haproxy: Haproxy, *, times: int) -> None:
    """Restart one replica after the other, *times* in all, as a rolling update does: the next once this one is back."""
    for number in range(times):
        replica = replicas[number % len(replicas)]
        replica.stop()
        replica.start()
        haproxy.until_up(replica.port)
