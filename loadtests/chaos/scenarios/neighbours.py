"""A large model that is loaded beside one that answers."""

from collections.abc import Iterator

from loadtests.chaos.findings import Finding, found
from loadtests.chaos.neighbours import LOOK_PAUSE_S, compare
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import Stage, client, http, invocations, register, serve

NEIGHBOUR_P99_MAX = 1.2

_MEBIBYTES = 300


def neighbours(stage: Stage) -> Iterator[Finding]:
    """It comes by a pin and goes by its end, some times; the first time it is fetched, too."""
    rounds, phase_s = int(stage.choose(thorough=21, quick=1)), stage.choose(thorough=3, quick=2)
    with stage.server() as server:
        register(server.url, "iris=trained:500", f"heavy=heavy:{_MEBIBYTES}")
        serve(server.url, "iris", champion=1)
        pin = f"{server.url}/api/1.0/titlebout/pins/heavy/1"

        def is_there() -> bool:
            (replica,) = client(server.url).status()["replicas"]
            return any(slot["model"] == "heavy" and slot["state"] == "READY" for slot in replica["slots"])

        def load_it() -> None:
            http().put(pin).raise_for_status()
            until(is_there, "the large model in memory", poll_s=LOOK_PAUSE_S)

        def let_it_go() -> None:
            http().delete(pin)
            until(lambda: not is_there(), "the end of the large model", poll_s=LOOK_PAUSE_S)

        load = stage.load(invocations(server.url, "iris"))
        comparison = compare(load, load_it, rounds=rounds, phase_s=phase_s, afterwards=let_it_go, look=is_there)
        failed = len(comparison.load.failures)
        promises = [(failed == 0, f"{failed} requests to another model failed")]
        if not stage.is_quick:
            said = f"another model's p99 was over {NEIGHBOUR_P99_MAX} times its own"
            promises.append((comparison.p99_ratio <= NEIGHBOUR_P99_MAX, said))
        yield found(
            f"a model of {_MEBIBYTES} MiB loaded, {rounds} times",
            comparison.load.outcomes,
            promises,
            figures=comparison.words(),
        )
