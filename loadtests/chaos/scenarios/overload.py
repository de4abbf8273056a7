"""Five times as many requests as a version can answer, sent by the clock."""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import mean, median

import msgspec
import uvloop

from loadtests.chaos.clients import Outcome
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.open_loop import OpenLoop, capacity_per_s, is_success, kinds, percentile, took_ms
from loadtests.chaos.stage import Stage, invocations, register, serve
from loadtests.stalls import watched_stalls

TIMES = 5.0
GOODPUT_MIN = 0.9
REJECTION_MS_MAX = 50.0
RECOVERY_S_MAX = 5.0

_BODY = b'{"inputs": [[1.0]]}'
_CONNECTIONS = 4
_CALM_SHARE = 0.6
_DEADLINE_MS = 250
_WINDOW_S = 0.25
_WINDOWS = 4
# While half of all take over this many times what they usually take, there still is a queue.
_SLOWED = 3.0


def overload(stage: Stage) -> Iterator[Finding]:
    """Once plainly, and once with callers who wait for no longer than a quarter of a second."""
    with stage.server() as server:
        # One that only waits stays as quick as it is while others want the processor; but most models want it, too.
        register(server.url, "busy=waiting:7" if stage.is_quick else "busy=busy:1")
        serve(server.url, "busy", champion=1)
        url = invocations(server.url, "busy")
        yield _flooded(stage, url, {}, f"{TIMES:g} times what a model can answer")
        deadline = {"X-Titlebout-Deadline-Ms": str(_DEADLINE_MS)}
        yield _flooded(stage, url, deadline, f"the same, with deadlines of {_DEADLINE_MS} ms")


class _Flood(msgspec.Struct, frozen=True):
    """A flood beside a calm load that goes on before, during and after it."""

    calm: list[Outcome]
    flood: list[Outcome]
    began_s: float
    ended_s: float
    late_ms: Sequence[float]
    """Each request's delay in the sender, which no outcome counts."""

    @property
    def outcomes(self) -> list[Outcome]:
        return [*self.calm, *self.flood]

    @property
    def good_per_s(self) -> float:
        good = sum(is_success(each) and self.began_s <= each.ended_s < self.ended_s for each in self.outcomes)
        return good / (self.ended_s - self.began_s)

    @property
    def recovery_s(self) -> float:
        usual_ms = median(took_ms([each for each in self.calm if each.ended_s < self.began_s]))
        return recovered_after_s(self.calm, self.ended_s, _SLOWED * usual_ms)


def _flooded(stage: Stage, url: str, headers: Mapping[str, str], what: str) -> Finding:
    """Peaks and floods in turns, because the machine isn't as quick at one time as at another."""
    # One short round beside other work shows no tenth, and no instant.
    goodput_min = stage.choose(thorough=GOODPUT_MIN, quick=0.6)
    rejection_ms_max = stage.choose(thorough=REJECTION_MS_MAX, quick=500)
    peak_s = stage.choose(thorough=4, quick=2)
    peaks_per_s = [_peak_per_s(url, peak_s)]
    floods: list[_Flood] = []
    with watched_stalls() as stalls:
        for _ in range(int(stage.choose(thorough=3, quick=1))):
            floods.append(uvloop.run(_flood(stage, url, headers, peaks_per_s[-1])))
            peaks_per_s.append(_peak_per_s(url, peak_s))
    goodput = median(
        flood.good_per_s / mean(around) for flood, around in zip(floods, pairwise(peaks_per_s), strict=True)
    )
    recovery_s = max(flood.recovery_s for flood in floods)
    outcomes = [outcome for flood in floods for outcome in flood.outcomes]
    rejections = [outcome for outcome in outcomes if outcome.status == 429]
    rejections_ms = took_ms(rejections)
    undisturbed_ms = took_ms([each for each in rejections if not stalls.overlap(each.began_s, each.ended_s)])
    rejection_ms = percentile(undisturbed_ms, 99)
    late_ms = sorted(ms for flood in floods for ms in flood.late_ms)
    return found(
        what,
        outcomes,
        [
            (goodput >= goodput_min, f"goodput below {goodput_min:.0%}"),
            (rejection_ms <= rejection_ms_max, f"rejections took over {rejection_ms_max:g} ms"),
            (recovery_s <= RECOVERY_S_MAX, f"recovery took over {RECOVERY_S_MAX:g} s"),
        ],
        recovery_s=recovery_s,
        figures=(
            f"peak {mean(peaks_per_s):.0f}/s, goodput {goodput:.0%} of it; rejected in "
            f"{percentile(rejections_ms, 50):.1f} ms, p99 {rejection_ms:.1f}, with the "
            f"{len(rejections_ms) - len(undisturbed_ms)} during which the machine stood still "
            f"{percentile(rejections_ms, 99):.1f}, slowest {max(rejections_ms, default=math.nan):.0f}; sent up to "
            f"{percentile(late_ms, 99):.1f} ms late (p99); failed: "
            f"{kinds([outcome for outcome in outcomes if not is_success(outcome)])}"
        ),
    )


def _peak_per_s(url: str, for_s: float) -> float:
    return capacity_per_s(url, _BODY, connections=_CONNECTIONS, for_s=for_s)


async def _flood(stage: Stage, url: str, headers: Mapping[str, str], peak_per_s: float) -> _Flood:
    calm = OpenLoop(url, _BODY, rate_per_s=_CALM_SHARE * peak_per_s, seed=stage.seed())
    flood = OpenLoop(url, _BODY, rate_per_s=TIMES * peak_per_s, seed=stage.seed(), headers=headers)
    async with calm.running():
        await asyncio.sleep(stage.choose(thorough=3, quick=2))
        async with flood.running():
            began_s = time.monotonic()
            await asyncio.sleep(stage.choose(thorough=10, quick=4))
            ended_s = time.monotonic()
        seen = _Flood(calm.outcomes, flood.outcomes, began_s, ended_s, flood.late_ms)
        await _until_recovered(seen)
    return seen


async def _until_recovered(flood: _Flood) -> None:
    """And a second longer, in which those can still fail that were asked in the one that looked good."""
    until_s = flood.ended_s + RECOVERY_S_MAX
    # Looked at now and then: the outcomes are those of a load that goes on meanwhile.
    while time.monotonic() < until_s and math.isinf(flood.recovery_s):  # noqa: ASYNC110  (nobody says that it is over)
        await asyncio.sleep(_WINDOW_S)
    await asyncio.sleep(1)


def recovered_after_s(outcomes: Sequence[Outcome], ended_s: float, usual_ms: float) -> float:
    """From *ended_s* to the first second in which nothing fails and half of all take no longer than *usual_ms*.

    Infinite if that never came.
    """
    windows: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.began_s >= ended_s:
            windows.setdefault(int((outcome.began_s - ended_s) / _WINDOW_S), []).append(outcome)
    for first in range(max(windows, default=0) + 1 - _WINDOWS):
        second = [outcome for number in range(first, first + _WINDOWS) for outcome in windows.get(number, [])]
        if second and all(map(is_success, second)) and percentile(took_ms(second), 50) <= usual_ms:
            return first * _WINDOW_S
    return math.inf
