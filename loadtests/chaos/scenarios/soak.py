"""Many requests and many flips, and what is left of them in memory."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import linear_regression

import msgspec

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.clients import Outcome
from loadtests.chaos.findings import Finding
from loadtests.chaos.open_loop import ClosedLoop, is_success
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import IRIS_BODY, Stage, client, invocations, register, serve, while_loaded
from loadtests.processes import family, name, own_memory_bytes

GROWTH_BYTES_MAX = 1_000_000
"""For each 100,000 requests, of all processes together."""

_PER_REQUESTS = 100_000
_SAMPLES = 100
_CONNECTIONS = 16
_TOLD_EACH = 10
# What a process takes until it has met everything once is no growth.
_WARM_UP_SHARE = 0.2
_MIB = 1024**2


class Sample(msgspec.Struct, frozen=True):
    """What each process held after so many requests, in bytes."""

    requests: int
    held: dict[int, int]


class _Tally:
    """What is kept of a million outcomes."""

    def __init__(self) -> None:
        self.requests = 0
        self.slowest_ms = 0.0
        self.faults: Counter[str] = Counter()
        self.newest_epoch = 0

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.newest_epoch = max(self.newest_epoch, outcome.epoch)
        if is_success(outcome):
            self.slowest_ms = max(self.slowest_ms, 1000 * (outcome.ended_s - outcome.began_s))
        else:
            self.faults[outcome.fault or str(outcome.status)] += 1


def soak(stage: Stage, *, requests: int, flips: int) -> Iterator[Finding]:
    """Memory by the requests answered, file descriptors before and after. So many of both, at least."""
    with stage.server("--workers", "2") as server:
        register(server.url, "iris=trained:2", "iris=trained:500")
        serve(server.url, "iris", champion=1, challenger=2)
        url, tally = invocations(server.url, "iris"), _Tally()
        load = ClosedLoop(url, IRIS_BODY, connections=_CONNECTIONS, record=tally.add)
        descriptors = _settled_descriptors(server)
        began_s = time.monotonic()
        with _sampled(server, tally, every=requests // _SAMPLES) as samples:
            while_loaded([load], lambda: _flip_meanwhile(server.url, tally, requests, flips))
        took_s = time.monotonic() - began_s
        left_over = _settled_descriptors(server) - descriptors
        yield _judge(server, tally, samples, f"{flips:,} flips under requests for {took_s:.0f} s", left_over)


def _flip_meanwhile(url: str, tally: _Tally, requests: int, flips: int) -> None:
    """Flips at even distances, as requests go by, and to the end of both."""
    for number in range(flips):
        _until_asked(tally, number * requests // flips)
        if number % max(1, flips // _TOLD_EACH) == 0:
            # Apart from the table, which people keep.
            print(f"  … {tally.requests:,} requests, {number:,} flips", file=sys.stderr, flush=True)
        epoch = tally.newest_epoch
        client(url).set_alias("iris", "champion", 2 - number % 2)
        until(lambda: tally.newest_epoch > epoch, "the next epoch")  # noqa: B023  (called at once)
    _until_asked(tally, requests)


def _until_asked(tally: _Tally, count: int) -> None:
    while tally.requests < count:
        time.sleep(0.01)


@contextmanager
def _sampled(server: ServerProcess, tally: _Tally, *, every: int) -> Iterator[list[Sample]]:
    """What each process holds, looked at every so many requests while the block lasts."""
    samples: list[Sample] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            if not samples or tally.requests >= samples[-1].requests + every:
                held = {pid: own_memory_bytes(pid) for pid in family(server.process.pid)}
                samples.append(Sample(tally.requests, held))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def growth_bytes(samples: Sequence[Sample], pids: Sequence[int]) -> float:
    """By how much *pids* together grew with every 100,000 requests, once all was warm: the slope of a straight line."""
    warm = samples[int(len(samples) * _WARM_UP_SHARE) :]
    if len(warm) < 2:
        return 0.0
    held = [sum(sample.held.get(pid, 0) for pid in pids) for sample in warm]
    return _PER_REQUESTS * linear_regression([sample.requests for sample in warm], held).slope


def _settled_descriptors(server: ServerProcess) -> Counter[str]:
    """Open file descriptors by kind of process, once those of callers who left are closed."""
    time.sleep(2)
    open_now: Counter[str] = Counter()
    for pid in family(server.process.pid):
        open_now[name(pid)] += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return open_now


def _judge(
    server: ServerProcess, tally: _Tally, samples: Sequence[Sample], what: str, left_over: Counter[str]
) -> Finding:
    pids = family(server.process.pid)
    grown = growth_bytes(samples, pids)
    each = ", ".join(
        f"{name(pid)} {samples[-1].held[pid] / _MIB:.0f} MiB ({growth_bytes(samples, [pid]) / 1000:+.0f} kB)"
        for pid in pids
        if pid in samples[-1].held
    )
    promises = [
        (not tally.faults, f"requests failed: {dict(tally.faults)}"),
        (grown < GROWTH_BYTES_MAX, "memory grew by a megabyte or more"),
        (not left_over, f"file descriptors were left open: {dict(left_over)}"),
    ]
    return Finding(
        what=what,
        requests=tally.requests,
        failed=tally.faults.total(),
        slowest_ms=tally.slowest_ms,
        figures=f"{grown / 1000:+.0f} kB for each {_PER_REQUESTS:,} requests; {each}",
        missed=tuple(said for held, said in promises if not held),
    )
