"""Measures servers in turns: rates, percentiles, processor time, starts and memory."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from loadtests import processes
from loadtests.effort import Effort
from loadtests.scoring import wrk
from loadtests.scoring.servers import ScoringServer
from loadtests.scoring.work import Work

_MIB = 1024**2
_WARM_UP_S = 1
# With fewer answers a round shows how a server starts on its queue, not how quick it is. The slowest get longer rounds.
_ANSWERS_PER_CONNECTION = 2
_LONGER_MAX = 4
# How many requests differ; none of the servers remembers answers, and this shows it.
_BODIES = 64
# Work that a server still has from a round before must not run into the next one's time.
_IDLE_SHARE = 0.1
_IDLE_PAUSE_S = 0.2
_IDLE_WITHIN_S = 60.0

Progress = Callable[[str], None]
"""Told what is being done."""


class Round(NamedTuple):
    """What one server did in one round."""

    per_s: float
    p50_ms: float
    p99_ms: float
    processor_us: float
    """A request, of all processes of the server."""
    errors: int


class Rates(NamedTuple):
    """All rounds of one server: the median of each figure, and the slowest and quickest of the rates."""

    per_s: float
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    processor_us: float
    errors: int
    per_s_least: float
    per_s_most: float


class Start(NamedTuple):
    """One start, or the medians of several."""

    start_s: float
    """To the first answered prediction."""
    memory_mib: float
    """All processes' after it: proportional set size."""


def rates(work: Work, servers: Sequence[ScoringServer], effort: Effort, progress: Progress) -> Mapping[str, Rates]:
    """The rates of *work*, by each server's name, once each has shown that it answers rightly."""
    rounds: dict[str, list[Round]] = {server.name: [] for server in servers}
    durations_s: dict[str, int] = {}
    for server in servers:
        progress(f"{work.title}: {server.name}, first answer")
        server.check(work.rows)
        durations_s[server.name] = round_length_s(work, effort, _drive(work, server, _WARM_UP_S)[0].requests)
    for number in range(effort.rounds):
        for server in servers:
            progress(f"{work.title}: {server.name}, round {number + 1} of {effort.rounds}")
            rounds[server.name].append(one_round(work, server, durations_s[server.name]))
    return {name: summary(seen, work.rows) for name, seen in rounds.items()}


def round_length_s(work: Work, effort: Effort, answers_per_s: int) -> int:
    """How long the rounds of a server are that gave *answers_per_s* when it was warmed up."""
    longest_s = _LONGER_MAX * effort.round_s
    if not answers_per_s:
        return longest_s
    enough_s = math.ceil(_ANSWERS_PER_CONNECTION * work.connections / answers_per_s)
    return min(longest_s, max(effort.round_s, enough_s))


def summary(rounds: Sequence[Round], rows: int) -> Rates:
    """What *rounds* of requests of *rows* rows each come to."""
    per_s = median(one.per_s for one in rounds)
    return Rates(
        per_s=per_s,
        rows_per_s=per_s * rows,
        p50_ms=median(one.p50_ms for one in rounds),
        p99_ms=median(one.p99_ms for one in rounds),
        processor_us=median(one.processor_us for one in rounds),
        errors=sum(one.errors for one in rounds),
        per_s_least=min(one.per_s for one in rounds),
        per_s_most=max(one.per_s for one in rounds),
    )


def _script(work: Work, server: ScoringServer) -> Path:
    script = server.folder / f"{work.rows}-rows.lua"
    if not script.exists():
        inputs = server.examples.inputs
        starts = range(0, min(len(inputs), _BODIES * work.rows), work.rows)
        wrk.write_script(script, [server.body(inputs[begin : begin + work.rows]) for begin in starts], server.headers)
    return script


def one_round(work: Work, server: ScoringServer, duration_s: int) -> Round:
    """Load *server* for so long, and wait until it has finished what it was asked.

    Raises:
        RuntimeError: if it answered nothing, or doesn't finish.
    """
    found, used_s = _drive(work, server, duration_s)
    if not found.requests:
        raise RuntimeError(f"{work.title}: {server.name} answered nothing in {duration_s} s.")
    return Round(
        per_s=1e6 * found.requests / found.duration_us,
        p50_ms=found.p50_us / 1000,
        p99_ms=found.p99_us / 1000,
        processor_us=1e6 * used_s / found.requests,
        errors=found.errors,
    )


def _drive(work: Work, server: ScoringServer, duration_s: int) -> tuple[wrk.Found, float]:
    """What wrk found, and the processor time that the server used meanwhile."""
    url = f"http://127.0.0.1:{server.port}{server.path}"
    before_s = processes.processor_s(server.pid)
    found = wrk.drive(url, _script(work, server), connections=work.connections, duration_s=duration_s)
    used_s = processes.processor_s(server.pid) - before_s
    _until_idle(server)
    return found, used_s


def _until_idle(server: ScoringServer) -> None:
    deadline_s = time.monotonic() + _IDLE_WITHIN_S
    used_s = processes.processor_s(server.pid)
    while time.monotonic() < deadline_s:
        time.sleep(_IDLE_PAUSE_S)
        before_s, used_s = used_s, processes.processor_s(server.pid)
        if used_s - before_s <= _IDLE_SHARE * _IDLE_PAUSE_S:
            return
    raise RuntimeError(f"{server.name} went on working for {_IDLE_WITHIN_S:g} s after nobody asked it any more.")


def starts(servers: Sequence[ScoringServer], rounds: int, progress: Progress) -> Mapping[str, Start]:
    """How each of the stopped *servers* starts, alone on the machine; stopped again when this returns."""
    seen: dict[str, list[Start]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers:
            progress(f"start of {server.name}, {number + 1} of {rounds}")
            start_s = server.start()
            seen[server.name].append(Start(start_s, processes.memory_bytes(server.pid) / _MIB))
            server.stop()
    return {
        name: Start(median(one.start_s for one in found), median(one.memory_mib for one in found))
        for name, found in seen.items()
    }
