"""What a shadow of all traffic costs those who are answered: p99 with it against p99 without, and processor time.

One Titlebout, one model in two versions, and rounds in pairs, one with a shadow and one without, in an order that
alternates, so that whatever else the machine does meets both alike. wrk pauses between requests, so that the machine
has time to spare: a loop at full speed, on two cores, is halved by anything that runs beside it, and says nothing of
waiting. Prints each pair, then the median of the ratios with an interval that holds it in 19 of 20 runs.
"""

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gateway.cli.client import Client
from loadtests import processes
from loadtests.scoring import wrk
from loadtests.scoring.models import LOGISTIC
from loadtests.scoring.servers import Titlebout
from loadtests.tables import heading, line

_SHADOW = "challenger"
_BODIES = 64
_SWITCHED_WITHIN_S = 30.0
_POLL_S = 0.05
# What waits when a round ends is asked before the next one begins.
_SETTLED_S = 0.5
_GROWTH_MAX = 1.05


class Round(NamedTuple):
    per_s: float
    p50_ms: float
    p99_ms: float
    processor_us: float
    """A request, of all of Titlebout's processes, the shadow's own among them."""
    errors: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.shadow", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--round-s", type=int, default=4, help="how long each round is (default: 4)")
    parser.add_argument("--connections", type=int, default=32, help="of wrk (default: 32)")
    parser.add_argument(
        "--pause-ms", type=int, default=8, help="of each connection before each request, on average (default: 8)"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended."))
    with tempfile.TemporaryDirectory(prefix="titlebout-shadow-") as folder:
        server = Titlebout(Path(folder) / "titlebout", LOGISTIC, Path(folder) / "files")
        server.prepare("inputs")
        try:
            server.start()
            server.split(0)
            server.check(1)
            _compare(_Bench(server, options.round_s, options.connections, options.pause_ms), options.pairs)
        finally:
            server.stop()


class _Bench:
    """One server, with its shadow or without."""

    def __init__(self, server: Titlebout, round_s: int, connections: int, pause_ms: int) -> None:
        self._server = server
        self._client = Client(f"http://127.0.0.1:{server.port}")
        self._round_s = round_s
        self._connections = connections
        self._script = server.folder / "paused.lua"
        bodies = [server.body([row]) for row in server.examples.inputs[:_BODIES]]
        wrk.write_script(self._script, bodies, pause_ms=pause_ms)

    def round(self, *, shadowed: bool) -> Round:
        self._switch(shadowed=shadowed)
        url = f"http://127.0.0.1:{self._server.port}{self._server.path}"
        before_s = processes.processor_s(self._server.pid)
        found = wrk.drive(url, self._script, connections=self._connections, duration_s=self._round_s)
        time.sleep(_SETTLED_S)
        used_s = processes.processor_s(self._server.pid) - before_s
        return Round(
            per_s=1e6 * found.requests / found.duration_us,
            p50_ms=found.p50_us / 1000,
            p99_ms=found.p99_us / 1000,
            processor_us=1e6 * used_s / max(found.requests, 1),
            errors=found.errors,
        )

    def figures(self) -> list[str]:
        """What became of the copies."""
        self._switch(shadowed=True)
        return [
            f"{pair['compared']:,} copies compared, {pair['agreed']:,} agreed, {pair['failed']:,} failed, "
            f"{pair['dropped']:,} dropped"
            for pair in self._client.shadow(LOGISTIC)["beside"]
        ]

    def _switch(self, *, shadowed: bool) -> None:
        """Have the shadow, or none, be in force."""
        deadline_s = time.monotonic() + _SWITCHED_WITHIN_S
        if shadowed:
            self._client.set_shadow(LOGISTIC, {"arm": _SHADOW})
        else:
            self._client.remove_shadow(LOGISTIC)
        while not self._client.shadow(LOGISTIC)["is_in_force"]:
            if time.monotonic() > deadline_s:
                raise RuntimeError("The shadow didn't come into force.")
            time.sleep(_POLL_S)


def _compare(bench: _Bench, pairs: int) -> None:
    bench.round(shadowed=True)
    print(heading("pair", "", "requests/s", "p50 ms", "p99 ms", "processor µs a request", "errors"), flush=True)
    seen: list[tuple[Round, Round]] = []
    for number in range(pairs):
        first = bench.round(shadowed=bool(number % 2))
        second = bench.round(shadowed=not number % 2)
        without, shadowed = (second, first) if number % 2 else (first, second)
        seen.append((without, shadowed))
        for name, one in (("without", without), ("shadow", shadowed)):
            figures = (f"{one.per_s:,.0f}", f"{one.p50_ms:.3f}", f"{one.p99_ms:.3f}", f"{one.processor_us:.0f}")
            print(line(str(number + 1), name, *figures, str(one.errors)), flush=True)
    print()
    print("\n".join(bench.figures()))
    growths = [shadowed.p99_ms / without.p99_ms for without, shadowed in seen]
    lower, upper = _interval(growths)
    said = "reached" if median(growths) <= _GROWTH_MAX else "NOT REACHED"
    print(f"p50: {median(after.p50_ms / before.p50_ms for before, after in seen):.3f} x of what it is without")
    print(f"p99: {median(growths):.3f} x ({lower:.3f} to {upper:.3f}) of what it is without; at most 1.05 x: {said}")
    spent = [median(rounds[which].processor_us for rounds in seen) for which in (0, 1)]
    print(f"Processor time: {spent[0]:.0f} µs a request without, {spent[1]:.0f} µs with the shadow's own")


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the median, by the order of *values* alone: 95 % if there are at least six, else all there is."""
    ranked, n = sorted(values), len(values)
    outside, reach = 0.0, 0
    # How many on either side can be left out while fewer than a fortieth of all coins tossed would lie beyond.
    while reach < n // 2 and outside + math.comb(n, reach) / 2**n <= 0.025:
        outside += math.comb(n, reach) / 2**n
        reach += 1
    place = max(reach - 1, 0)
    return ranked[place], ranked[n - 1 - place]


if __name__ == "__main__":
    main()
