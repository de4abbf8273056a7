"""Models whose predict does the worst, and what their neighbour feels of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import httpx

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.neighbours import Comparison, compare, median_interval
from loadtests.chaos.stage import EventCount, Stage, invocations, register, serve

REPLACED_S_MAX = 2.0
NEIGHBOUR_P99_MAX = 1.1

_PREDICT_TIMEOUT_S = 2.0
_BOUNDS = {
    "TITLEBOUT_PREDICT_TIMEOUT_S": f"{_PREDICT_TIMEOUT_S:g}",
    "TITLEBOUT_HOST_MEMORY_BYTES_MAX": str(400 << 20),
}
# One whose host ended a moment ago is replaced later; by turns each does its worst twice a minute at most.
_ODD = 3
_LATE_S = 0.5
_LEAKS_MAX = 40
_LEAK_PAUSE_S = 0.25
_ASK_TIMEOUT_S = 30.0
_POLL_S = 0.02
# A leak isn't any one request's: the watch ends the host between two of them, or memory is refused to one.
_STATUSES = {"raise": {500}, "hang": {504}, "crash": {503}, "exit": {503}, "leak": {200, 500, 503}}
_WAYS = {
    "raise": "raises",
    "hang": "hangs",
    "crash": "segfaults",
    "exit": "calls os._exit",
    "leak": "leaks",
}


def predicts(stage: Stage) -> Iterator[Finding]:
    """Each fault in rounds, with a quiet time before each: only its own requests fail, and its host is replaced."""
    rounds, phase_s = int(stage.choose(thorough=9, quick=1)), stage.choose(thorough=10, quick=2)
    names = [f"odd-{number}" for number in range(int(stage.choose(thorough=_ODD, quick=1)))]
    with stage.server(environment=_BOUNDS) as server:
        register(server.url, "iris=trained:500", *(f"{name}=obedient" for name in names))
        for name in ("iris", *names):
            serve(server.url, name, champion=1)
        for fault in _STATUSES:
            odd = _Odd(server, names)
            load = stage.load(invocations(server.url, "iris"))
            comparison = compare(load, odd.doing(fault), rounds=rounds, phase_s=phase_s)
            yield _judge(stage, fault, odd, comparison)


class _Odd:
    """The caller of models that do what they are told, which takes them in turns."""

    def __init__(self, server: ServerProcess, names: Sequence[str]) -> None:
        self._urls = cycle([invocations(server.url, name) for name in names])
        self._ends = [EventCount(server, "host_ended", model=name) for name in names]
        self._http = httpx.Client(timeout=_ASK_TIMEOUT_S)
        self.statuses: list[int] = []
        self.took_s: list[float] = []
        self.replaced_s: list[float] = []

    def doing(self, fault: str) -> Callable[[], None]:
        def do() -> None:
            url, began_s = next(self._urls), time.monotonic()
            status = self._leak(url) if fault == "leak" else self._ask(url, fault)
            self.statuses.append(status)
            self.took_s.append(time.monotonic() - began_s)
            self.replaced_s.append(self._until_fine(url))

        return do

    def _ask(self, url: str, wish: str) -> int:
        return self._http.post(url, json={"inputs": [wish]}).status_code

    def _leak(self, url: str) -> int:
        """Until its host has been ended for what it holds."""
        before, status = self.ends, int(httpx.codes.OK)
        for _ in range(_LEAKS_MAX):
            if self.ends > before:
                break
            status = self._ask(url, "leak")
            # The watch over its memory looks now and then.
            time.sleep(_LEAK_PAUSE_S)
        return status

    @property
    def ends(self) -> int:
        """How often a host of theirs ended."""
        return sum(count.now() for count in self._ends)

    def _until_fine(self, url: str) -> float:
        began_s = time.monotonic()
        while self._ask(url, "be fine") != httpx.codes.OK and time.monotonic() - began_s < _ASK_TIMEOUT_S:
            time.sleep(_POLL_S)
        return time.monotonic() - began_s


def _judge(stage: Stage, fault: str, odd: _Odd, comparison: Comparison) -> Finding:
    failed = len(comparison.load.failures)
    promises = [
        (failed == 0, f"{failed} requests to another model failed"),
        (set(odd.statuses) <= _STATUSES[fault], f"its own request was answered {set(odd.statuses)}"),
        (odd.ends == (0 if fault == "raise" else len(odd.statuses)), f"its host ended {odd.ends} times"),
        (max(odd.replaced_s) <= REPLACED_S_MAX, f"it took over {REPLACED_S_MAX:g} s to answer again"),
    ]
    if fault == "hang":
        promises.append((max(odd.took_s) <= _PREDICT_TIMEOUT_S + _LATE_S, "504 came long after the deadline"))
    if not stage.is_quick:
        # A p99 of ten seconds is itself good to a third, so nine rounds can show a growth but hardly rule one out.
        at_least, _ = median_interval(comparison.ratios)
        said = f"another model's p99 grew by over {NEIGHBOUR_P99_MAX - 1:.0%}"
        promises.append((at_least <= NEIGHBOUR_P99_MAX, said))
    return found(
        f"predict {_WAYS[fault]}, {len(odd.statuses)} times",
        comparison.load.outcomes,
        promises,
        recovery_s=max(odd.replaced_s),
        figures=comparison.words(),
    )
