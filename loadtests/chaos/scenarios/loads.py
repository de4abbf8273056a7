"""An alias that is pointed at a version which can't be loaded, in every way there is."""

import time
from collections.abc import Iterator

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.models import UNLOADABLE
from loadtests.chaos.open_loop import OpenLoop
from loadtests.chaos.stage import Stage, client, events, invocations, register, serve, while_loaded

LOADS_A_MINUTE_MAX = 8
"""The first try at once, the others after pauses that double from 1 s on, and one to spare."""

_BOUNDS = {"TITLEBOUT_LOAD_TIMEOUT_S": "5", "TITLEBOUT_HOST_MEMORY_BYTES_MAX": str(400 << 20)}
_BODY = b'{"inputs": ["be fine"]}'
_SAID = {
    "raises": "RuntimeError: no such feature",
    "hangs": "not ready after 5 s",
    "crashes": "ended by SIGSEGV",
    "eats memory": "400 MiB are the most",
    "fails its warm-up": "ValueError: still cold",
}


def loads(stage: Stage) -> Iterator[Finding]:
    """The champion keeps all of its traffic, the reason is shown, and nobody is in a hurry to try again."""
    watched_s = stage.choose(thorough=60, quick=12)
    names = {fault: f"odd-{number}" for number, fault in enumerate(UNLOADABLE)}
    with stage.server(environment=_BOUNDS) as server:
        wishes = [(f"{name}=obedient", f"{name}=unloadable:{fault}") for fault, name in names.items()]
        register(server.url, *(wish for both in wishes for wish in both))
        for name in names.values():
            serve(server.url, name, champion=1)
        # All at once, so that it is no longer than the slowest; they share what the machine can answer.
        share = stage.load_share / len(names)
        asked = {fault: stage.load(invocations(server.url, name), _BODY, share=share) for fault, name in names.items()}

        def point_at_the_bad_ones() -> None:
            for name in names.values():
                client(server.url).set_alias(name, "champion", 2)
            time.sleep(watched_s)

        while_loaded(list(asked.values()), point_at_the_bad_ones)
        for fault, name in names.items():
            yield _judge(server, fault, name, asked[fault], watched_s)


def _judge(server: ServerProcess, fault: str, name: str, load: OpenLoop, watched_s: float) -> Finding:
    endpoint = client(server.url).endpoint(name)
    said = " ".join(endpoint["problems"])
    failed = len(load.failures)
    versions = {outcome.version for outcome in load.outcomes if outcome.version}
    tries = len(events(server, "slot_changed", model=name, version=2, state="LOADING"))
    return found(
        f"alias moved to a version whose load {fault}" if " its " not in fault else f"… that {fault}",
        load.outcomes,
        [
            (failed == 0, f"{failed} requests failed"),
            (versions == {1} and endpoint["serving"] == {"champion": 1}, "the champion didn't keep its traffic"),
            (_SAID[fault] in said, f"the reason isn't shown: {said!r}"),
            (0 < tries <= LOADS_A_MINUTE_MAX, "it was tried too often, or never"),
        ],
        figures=f"{load.rate_per_s:.0f} requests/s; {tries} tries in {watched_s:.0f} s",
    )
