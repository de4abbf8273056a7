"""Workers and replicas that are replaced one after the other, as an update does it."""

from collections.abc import Iterator
from statistics import median

from loadtests.chaos.findings import Finding, found
from loadtests.chaos.haproxy import running_haproxy
from loadtests.chaos.open_loop import kinds, percentile, took_ms
from loadtests.chaos.restarts import Replica, replace_workers, roll, running
from loadtests.chaos.stage import Stage, invocations, register, serve, until_served, while_loaded
from tests.servers import running_postgres


def restarts(stage: Stage) -> Iterator[Finding]:
    """No request may fail: neither under one supervisor, nor with two replicas behind HAProxy."""
    times = int(stage.choose(thorough=20, quick=4))
    yield _workers_are_replaced(stage, times)
    yield _replicas_are_restarted(stage, times)


def _workers_are_replaced(stage: Stage, times: int) -> Finding:
    with stage.server("--workers", "2") as server:
        register(server.url, "iris=trained:500")
        serve(server.url, "iris", champion=1)
        load = stage.load(invocations(server.url, "iris"))
        replaced = while_loaded([load], lambda: replace_workers(server, times=times))
    return found(
        f"{replaced} workers replaced under one supervisor",
        load.outcomes,
        [(not load.failures, kinds(load.failures))],
        figures=_figures(load.rate_per_s, took_ms(load.outcomes)),
    )


def _replicas_are_restarted(stage: Stage, times: int) -> Finding:
    with running_postgres() as url:
        shared = ("--database-url", url, "--artifact-root", str(stage.folder / "artifacts"), "--migrate")
        replicas = [Replica(stage.folder / f"replica-{number}", *shared) for number in range(2)]
        with running(replicas), running_haproxy([replica.port for replica in replicas]) as haproxy:
            first, second = (f"http://127.0.0.1:{replica.port}" for replica in replicas)
            register(first, "iris=trained:500")
            serve(first, "iris", champion=1)
            until_served(second, "iris", champion=1)
            for replica in replicas:
                haproxy.until_up(replica.port)
            # One of the two must be able to answer all.
            load = stage.load(invocations(haproxy.url, "iris"), share=stage.load_share / 2)
            while_loaded([load], lambda: roll(replicas, haproxy, times=times))
    return found(
        f"{times} restarts of two replicas behind HAProxy",
        load.outcomes,
        [(not load.failures, kinds(load.failures))],
        figures=_figures(load.rate_per_s, took_ms(load.outcomes)),
    )


def _figures(rate_per_s: float, took: list[float]) -> str:
    return f"{rate_per_s:.0f} requests/s; median {median(took):.1f} ms, p99 {percentile(took, 99):.1f}"
