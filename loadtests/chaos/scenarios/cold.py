"""Five hundred requests for a model that is on its way into memory."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import uvloop

from loadtests.chaos.findings import Finding, found
from loadtests.chaos.open_loop import OpenLoop, kinds
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import Stage, client, events, invocations, register, until_served

REQUESTS = 500

_BODY = b'{"inputs": [[1.0]]}'

# What may be said of a model that isn't there yet: no endpoint, on its way, and then its answer.
_STATUSES = {200, 404, 503}
_PER_S = 250.0


def cold(stage: Stage) -> Iterator[Finding]:
    """They make one load and not five hundred, and nobody is kept waiting."""
    with stage.server("--workers", "2") as server:
        register(server.url, "late=waking:2")
        late = OpenLoop(invocations(server.url, "late"), _BODY, rate_per_s=_PER_S, seed=stage.seed())

        def wake() -> None:
            client(server.url).set_alias("late", "champion", 1)
            until_served(server.url, "late", champion=1)
            until(lambda: len(late.outcomes) >= REQUESTS and late.answered > 0, f"{REQUESTS} requests")

        async def play() -> None:
            async with late.running():
                await asyncio.to_thread(wake)

        uvloop.run(play())
        states = Counter(line["state"] for line in events(server, "slot_changed", model="late"))
        statuses = {outcome.status for outcome in late.outcomes}
        yield found(
            f"{len(late.outcomes)} requests for a cold model",
            late.outcomes,
            [
                (states["LOADING"] == 1, f"it was loaded {states['LOADING']} times"),
                (statuses <= _STATUSES, f"answered {statuses - _STATUSES}"),
            ],
            figures=kinds(late.outcomes),
        )
