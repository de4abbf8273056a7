"""Processes that are killed by -9: what fails is what they held."""

import time
from collections.abc import Iterator

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.kills import kill_hosts, kill_supervisor, kill_worker
from loadtests.chaos.open_loop import OpenLoop, kinds
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import IRIS_BODY, Stage, client, http, invocations, register, serve, while_loaded

# What a killed host held had been sent to it just before: it answers in a millisecond.
_HELD_S = 0.1
_LOOKS = 20


def kills(stage: Stage) -> Iterator[Finding]:
    """A worker, the hosts, the supervisor; then a start where the last one died."""
    times = int(stage.choose(thorough=5, quick=1))
    with stage.server("--workers", "2") as server:
        register(server.url, "iris=trained:2", "iris=trained:500")
        serve(server.url, "iris", champion=1, challenger=2)
        yield _kill_workers(stage, server, times)
        yield _kill_hosts(stage, server)
        load = stage.load(invocations(server.url, "iris"))
        while_loaded([load], lambda: kill_supervisor(server))
    began_s = time.monotonic()
    with stage.server("--workers", "2") as server:
        # The start after it is a part of what must be well.
        yield _judge_supervisor(load, server, time.monotonic() - began_s)


def _kill_workers(stage: Stage, server: ServerProcess, times: int) -> Finding:
    # Of what the worker that is left can answer, beside one that comes up: over that requests would queue, and be
    # refused, by the hundred. That is another scenario's.
    load = stage.load(invocations(server.url, "iris"), share=stage.load_share / 2)
    held: set[int] = set()
    took_s: list[float] = []

    def kill() -> None:
        for _ in range(times):
            began_s = time.monotonic()
            held.update(kill_worker(server))
            took_s.append(time.monotonic() - began_s)
            time.sleep(1)

    while_loaded([load], kill)
    others = [outcome for outcome in load.failures if outcome.port not in held]
    return found(
        f"kill -9 of a worker of two, {times} times",
        load.outcomes,
        [(not others, f"failed on connections that it didn't hold: {kinds(others)}"), _has_no_stale_table(server)],
        recovery_s=max(took_s),
        figures=f"{load.rate_per_s:.0f} requests/s; {len(held)} connections held; failed: {kinds(load.failures)}",
    )


def _kill_hosts(stage: Stage, server: ServerProcess) -> Finding:
    load = stage.load(invocations(server.url, "iris"))

    def kill() -> tuple[float, float]:
        killed_s = kill_hosts(server)
        return killed_s, time.monotonic() - killed_s

    killed_s, took_s = while_loaded([load], kill)
    others = [each for each in load.failures if each.status != 503 or each.began_s > killed_s + _HELD_S]
    return found(
        "kill -9 of all model hosts",
        load.outcomes,
        [(not others, f"failed though no host held them: {kinds(others)}"), _has_no_stale_table(server)],
        recovery_s=took_s,
        figures=f"{load.rate_per_s:.0f} requests/s; failed: {kinds(load.failures)}",
    )


def _judge_supervisor(load: OpenLoop, server: ServerProcess, start_s: float) -> Finding:
    """Of what was asked while it died, and of the server that was started in its place."""
    epoch = max(outcome.epoch for outcome in load.outcomes)
    kept = _has_no_stale_table(server, epoch)
    serve(server.url, "iris", champion=2, challenger=1)
    refused = [each for each in load.failures if each.is_first and each.status == 0]
    others = [each for each in load.failures if each not in refused]
    return found(
        "kill -9 of the supervisor, and a start after it",
        load.outcomes,
        [(not others, f"failed on connections that had been answered: {kinds(others)}"), kept],
        recovery_s=start_s,
        figures=(
            f"{load.rate_per_s:.0f} requests/s; no process left; {len(refused)} refused once nobody listened, "
            f"{len(others)} failed before"
        ),
    )


def _has_no_stale_table(server: ServerProcess, epoch: int = 0) -> tuple[bool, str]:
    """Whether all workers answer from the newest epoch, which is *epoch* at least."""
    url = invocations(server.url, "iris")
    headers = {"Content-Type": "application/json"}
    seen = {
        int(http().post(url, content=IRIS_BODY, headers=headers).headers["X-Titlebout-Epoch"]) for _ in range(_LOOKS)
    }
    # The lease of one that was killed is over after some seconds; until then it is waited for.
    until(lambda: client(server.url).status()["epoch"] > 0, "the end of the lease of who was killed")
    newest = client(server.url).status()["epoch"]
    return seen == {newest} and newest >= epoch, f"answers came from epochs {seen}, the newest is {newest}"
