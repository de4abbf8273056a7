"""A champion alias that moves to and fro over two replicas while both answer."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from gateway.cli.client import Client
from gateway.cli.server_process import ServerProcess
from loadtests.chaos.clients import Outcome
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.open_loop import OpenLoop
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import Registered, Stage, invocations, register, serve, while_loaded
from loadtests.flips import OLD_TABLE_MS_MAX, commits_s
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
        took_s = while_loaded(loads, lambda: _flip(servers, loads, count))
        yield _judge(loads, took_s, versions, commits_s(servers))


def _flip(servers: Sequence[ServerProcess], loads: Sequence[OpenLoop], count: int) -> list[float]:
    """For each flip the seconds from the alias call until all replicas answer from the new table."""
    clients = [Client(server.url) for server in servers]
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


def _judge(
    loads: Sequence[OpenLoop], took_s: Sequence[float], versions: Sequence[Registered], commits: Mapping[int, float]
) -> Finding:
    outcomes = [outcome for load in loads for outcome in load.outcomes]
    failed = sum(len(load.failures) for load in loads)
    old_table_ms = max(old_tables_ms(outcomes, commits), default=0.0)
    rate_per_s = sum(load.rate_per_s for load in loads)
    return found(
        f"{len(took_s)} flips, {len(loads)} replicas of 2 workers on one PostgreSQL",
        outcomes,
        [
            (failed == 0, f"{failed} requests failed"),
            (not any(went_back(load.outcomes) for load in loads), "an epoch went back on a connection"),
            (old_table_ms <= OLD_TABLE_MS_MAX, f"an old table answered for over {OLD_TABLE_MS_MAX} ms"),
            (are_right(outcomes, versions), "an answer wasn't that of the version it named"),
        ],
        recovery_s=max(took_s),
        figures=(
            f"{rate_per_s:.0f} requests/s; old table up to {old_table_ms:.0f} ms after the commit; flip to answers "
            f"everywhere {1000 * median(took_s):.0f} ms, slowest {1000 * max(took_s):.0f}"
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


def old_tables_ms(outcomes: Sequence[Outcome], commits: Mapping[int, float]) -> Iterator[float]:
    """For each answer from an epoch that was followed: how long after the next one's commit it was asked for."""
    offset_s = time.time() - time.monotonic()
    for outcome in outcomes:
        if outcome.epoch + 1 in commits:
            yield 1000 * (outcome.began_s + offset_s - commits[outcome.epoch + 1])


def are_right(outcomes: Sequence[Outcome], versions: Sequence[Registered]) -> bool:
    """Whether each answer is what was foretold offline of the version that it names."""
    foretold = {each.version: {"predictions": each.predictions} for each in versions}
    answers = {(outcome.version, outcome.content) for outcome in outcomes if outcome.version}
    return all(json.loads(content) == foretold[version] for version, content in answers)
