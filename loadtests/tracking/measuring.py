"""Measures both servers in turns, so that whatever else the machine does meets both alike."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from loadtests import processes
from loadtests.effort import Effort
from loadtests.servers import Server
from loadtests.tracking.wire import Requests, drive, send_file, take
from loadtests.tracking.work import Work

_MIB = 1024**2


class Rates(NamedTuple):
    """What all rounds of one server came to."""

    per_s: float
    p50_ms: float
    p95_ms: float
    processor_ms: float


class Start(NamedTuple):
    took_s: float
    memory_mib: float


class History(NamedTuple):
    took_s: float
    grew_mib: float
    processor_s: float


class Transfer(NamedTuple):
    upload_mib_s: float
    download_mib_s: float
    processor_s: float
    grew_mib: float


def rates(work: Work, servers: Sequence[Server], effort: Effort) -> list[Rates]:
    """The rates of *work* on each of *servers*."""
    requests = [work.prepare(server) for server in servers]
    tallies = [_Tally() for _ in servers]
    for server, ask in zip(servers, requests, strict=True):
        drive(server.port, ask, connections=work.connections, duration_s=0.2)
    for _ in range(effort.rounds):
        for server, ask, tally in zip(servers, requests, tallies, strict=True):
            tally.add(server, ask, work.connections, effort.round_s)
    return [tally.rates() for tally in tallies]


class _Tally:
    def __init__(self) -> None:
        self._took_s = 0.0
        self._processor_s = 0.0
        self._latencies_s: list[float] = []

    def add(self, server: Server, requests: Requests, connections: int, duration_s: float) -> None:
        before_s = processes.processor_s(server.pid)
        seen = drive(server.port, requests, connections=connections, duration_s=duration_s)
        self._processor_s += processes.processor_s(server.pid) - before_s
        self._took_s += seen.took_s
        self._latencies_s += seen.latencies_s

    def rates(self) -> Rates:
        ordered_ms = sorted(1000 * latency_s for latency_s in self._latencies_s)
        count = len(ordered_ms)
        return Rates(
            per_s=count / self._took_s,
            p50_ms=median(ordered_ms),
            p95_ms=ordered_ms[min(count - 1, int(0.95 * count))],
            processor_ms=1000 * self._processor_s / count,
        )


def starts(servers: Sequence[Server], rounds: int) -> list[Start]:
    """Start each of the stopped *servers*, in turns; they run when this returns."""
    took_s: list[list[float]] = [[] for _ in servers]
    for number in range(rounds):
        for server, times_s in zip(servers, took_s, strict=True):
            if number:
                server.stop()
            times_s.append(server.start())
    return [
        Start(median(times_s), processes.memory_bytes(server.pid) / _MIB)
        for server, times_s in zip(servers, took_s, strict=True)
    ]


def history(server: Server, path: str) -> History:
    """One history in one answer."""
    before_s = processes.processor_s(server.pid)
    with processes.peak_growth() as growth:
        growth.watch(server.pid)
        took_s, _ = take(server.port, path)
    return History(took_s, growth.bytes / _MIB, processes.processor_s(server.pid) - before_s)


def transfer(server: Server, path: str, file: Path) -> Transfer:
    """One file up and down."""
    size_mib = file.stat().st_size / _MIB
    before_s = processes.processor_s(server.pid)
    with processes.peak_growth() as growth:
        growth.watch(server.pid)
        up_s = send_file(server.port, path, file)
        down_s, received = take(server.port, path)
    if received != file.stat().st_size:
        raise RuntimeError(f"{server.name} gave back {received} bytes of {file.stat().st_size}.")
    used_s = processes.processor_s(server.pid) - before_s
    return Transfer(size_mib / up_s, size_mib / down_s, used_s, growth.bytes / _MIB)
