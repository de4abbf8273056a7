"""A champion alias that moves to and fro over two replicas while both answer."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median

import msgspec

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.clients import Outcome
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.open_loop import OpenLoop
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import Registered, Stage, client, invocations, register, serve, while_loaded
from loadtests.flips import OLD_TABLE_MS_MAX, STALLED_AFTER_S, STALLED_BEFORE_S, commits_s
from loadtests.stalls import Stalls, watched_stalls
from tests.servers import running_postgres

_REPLICAS = 2
_LATEST = 50


def flips(stage: Stage) -> Iterator[Finding]:
    """Nobody may be refused, see an older table again, be answered from an old one for long, or wrongly."""
    count = int(stage.choose(thorough=200, quick=10))
    with running_postgres() as url, ExitStack() as life:
        options = ("--workers", "2", "--database-url", url, "--artifact-root", str(stage.folder / "artifacts"))
        servers: list[ServerProcess] = []
        for number in range(_REPLICAS):
            servers.append(life.enter_context(stage.server(*options, "--migrate", name=f"replica-{number}")))
            if number == 0:
                versions = register(servers[0].url, "iris=trained:2", "iris=trained:500")
                serve(servers[0].url, "iris", champion=1, challenger=2)
        body = json.dumps({"inputs": versions[0].rows}).encode()
        # All replicas share this machine, and so what it can answer.
        share = stage.load_share / _REPLICAS
        loads = [stage.load(invocations(server.url, "iris"), body, share=share) for server in servers]
        with watched_stalls() as stalls:
            took_s = while_loaded(loads, lambda: _flip(servers, loads, count))
        yield _judge(loads, took_s, versions, lateness(loads, commits_s(servers), stalls))


def _flip(servers: Sequence[ServerProcess], loads: Sequence[OpenLoop], count: int) -> list[float]:
    """For each flip the seconds from the alias call until all replicas answer from the new table."""
    clients = [client(server.url) for server in servers]
    took_s = []
    for number in range(count):
        version, began_s = 2 - number % 2, time.monotonic()
        epoch = max(outcome.epoch for load in loads for outcome in load.outcomes[-_LATEST:])
        clients[number % len(clients)].set_alias("iris", "champion", version)
        for load in loads:
            until(lambda: _answers(load, version, epoch), f"the flip to version {version}")  # noqa: B023  (called at once)
        took_s.append(time.monotonic() - began_s)
    return took_s


def _answers(load: OpenLoop, version: int, after_epoch: int) -> bool:
    return any(outcome.version == version and outcome.epoch > after_epoch for outcome in load.outcomes[-_LATEST:])


class Lateness(msgspec.Struct, frozen=True):
    """For each commit how long after it a request was last asked for that the table before answered, in ms."""

    undisturbed: Sequence[float]
    in_stalls: Sequence[float]
    """Around these the machine itself stood still: what has no processor can't switch."""

    def words(self) -> str:
        over = sum(late_ms > OLD_TABLE_MS_MAX for late_ms in self.in_stalls)
        return (
            f"old table up to {max(self.undisturbed, default=math.nan):.0f} ms after {len(self.undisturbed)} commits; "
            f"after the {len(self.in_stalls)} around which the machine stood still up to "
            f"{max(self.in_stalls, default=math.nan):.0f} ({over} over {OLD_TABLE_MS_MAX})"
        )


def lateness(loads: Sequence[OpenLoop], commits: Mapping[int, float], stalls: Stalls) -> Lateness:
    """How late the replicas let go of old tables, told apart by whether they could have been in time."""
    offset_s = time.time() - time.monotonic()
    late_ms = old_tables_ms([outcome for load in loads for outcome in load.outcomes], commits)
    stalled = {
        epoch
        for epoch in late_ms
        if stalls.overlap(commits[epoch] - offset_s - STALLED_BEFORE_S, commits[epoch] - offset_s + STALLED_AFTER_S)
    }
    return Lateness(
        undisturbed=[ms for epoch, ms in late_ms.items() if epoch not in stalled],
        in_stalls=[ms for epoch, ms in late_ms.items() if epoch in stalled],
    )


def _judge(
    loads: Sequence[OpenLoop], took_s: Sequence[float], versions: Sequence[Registered], late: Lateness
) -> Finding:
    outcomes = [outcome for load in loads for outcome in load.outcomes]
    failed = sum(len(load.failures) for load in loads)
    latest_ms = max(late.undisturbed, default=0.0)
    rate_per_s = sum(load.rate_per_s for load in loads)
    return found(
        f"{len(took_s)} flips, {len(loads)} replicas of 2 workers on one PostgreSQL",
        outcomes,
        [
            (failed == 0, f"{failed} requests failed"),
            (not any(went_back(load.outcomes) for load in loads), "an epoch went back on a connection"),
            (latest_ms <= OLD_TABLE_MS_MAX, f"an old table answered for over {OLD_TABLE_MS_MAX} ms"),
            (are_right(outcomes, versions), "an answer wasn't that of the version it named"),
        ],
        recovery_s=max(took_s),
        figures=(
            f"{rate_per_s:.0f} requests/s; {late.words()}; flip to answers everywhere "
            f"{1000 * median(took_s):.0f} ms, slowest {1000 * max(took_s):.0f}"
        ),
    )


def went_back(outcomes: Sequence[Outcome]) -> bool:
    """Whether on one connection an answer came from an older epoch than the one before."""
    newest: dict[int, int] = {}
    for outcome in outcomes:
        if not outcome.epoch:
            continue
        if outcome.epoch < newest.get(outcome.port, 0):
            return True
        newest[outcome.port] = outcome.epoch
    return False


def old_tables_ms(outcomes: Sequence[Outcome], commits: Mapping[int, float]) -> dict[int, float]:
    """For each epoch, how long after its commit a request was last asked for that was answered from the one before."""
    offset_s = time.time() - time.monotonic()
    latest_ms: dict[int, float] = {}
    for outcome in outcomes:
        epoch = outcome.epoch + 1
        if epoch in commits:
            asked_ms = 1000 * (outcome.began_s + offset_s - commits[epoch])
            latest_ms[epoch] = max(latest_ms.get(epoch, asked_ms), asked_ms)
    return latest_ms


def are_right(outcomes: Sequence[Outcome], versions: Sequence[Registered]) -> bool:
    """Whether each answer is what was foretold offline of the version that it names."""
    foretold = {each.version: {"predictions": each.predictions} for each in versions}
    answers = {(outcome.version, outcome.content) for outcome in outcomes if outcome.version}
    return all(json.loads(content) == foretold[version] for version, content in answers)
