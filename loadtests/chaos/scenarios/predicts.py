"""Models whose predict does the worst, and what their neighbour feels of it."""

import time
from collections.abc import Callable, Iterator

import httpx

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.neighbours import Comparison, compare
from loadtests.chaos.stage import EventCount, Stage, invocations, register, serve

REPLACED_S_MAX = 2.0
NEIGHBOUR_P99_MAX = 1.1

_PREDICT_TIMEOUT_S = 2.0
_BOUNDS = {
    "TITLEBOUT_PREDICT_TIMEOUT_S": f"{_PREDICT_TIMEOUT_S:g}",
    "TITLEBOUT_HOST_MEMORY_BYTES_MAX": str(400 << 20),
}
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
    # Four in two minutes: oftener than that and a version whose hosts end is replaced later and later, and what is
    # watched is mostly the back-off.
    rounds, phase_s = int(stage.choose(thorough=4, quick=1)), stage.choose(thorough=15, quick=2)
    with stage.server(environment=_BOUNDS) as server:
        register(server.url, "iris=trained:500", *(f"odd-{fault}=obedient" for fault in _STATUSES))
        serve(server.url, "iris", champion=1)
        for fault in _STATUSES:
            # One for each, because a version whose host ends again and again is replaced later and later.
            serve(server.url, f"odd-{fault}", champion=1)
            odd = _Odd(server, f"odd-{fault}")
            load = stage.load(invocations(server.url, "iris"))
            comparison = compare(load, odd.doing(fault), rounds=rounds, phase_s=phase_s)
            yield _judge(stage, fault, odd, comparison)


class _Odd:
    """The caller of the model that does what it is told."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        self._url = invocations(server.url, name)
        self._ends = EventCount(server, "host_ended", model=name)
        self._http = httpx.Client(timeout=_ASK_TIMEOUT_S)
        self.statuses: list[int] = []
        self.took_s: list[float] = []
        self.replaced_s: list[float] = []

    def doing(self, fault: str) -> Callable[[], None]:
        def do() -> None:
            began_s = time.monotonic()
            status = self._leak() if fault == "leak" else self._ask(fault)
            self.statuses.append(status)
            self.took_s.append(time.monotonic() - began_s)
            self.replaced_s.append(self._until_fine())

        return do

    def _ask(self, wish: str) -> int:
        return self._http.post(self._url, json={"inputs": [wish]}).status_code

    def _leak(self) -> int:
        """Until its host has been ended for what it holds."""
        before, status = self.ends, int(httpx.codes.OK)
        for _ in range(_LEAKS_MAX):
            if self.ends > before:
                break
            status = self._ask("leak")
            # The watch over its memory looks now and then.
            time.sleep(_LEAK_PAUSE_S)
        return status

    @property
    def ends(self) -> int:
        """How often its host ended."""
        return self._ends.now()

    def _until_fine(self) -> float:
        began_s = time.monotonic()
        while self._ask("be fine") != httpx.codes.OK and time.monotonic() - began_s < _ASK_TIMEOUT_S:
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
        # One round on a busy machine shows nothing of a tenth.
        said = f"another model's p99 grew by over {NEIGHBOUR_P99_MAX - 1:.0%}"
        promises.append((comparison.p99_ratio <= NEIGHBOUR_P99_MAX, said))
    return found(
        f"predict {_WAYS[fault]}, {len(odd.statuses)} times",
        comparison.load.outcomes,
        promises,
        recovery_s=max(odd.replaced_s),
        figures=comparison.words(),
    )
