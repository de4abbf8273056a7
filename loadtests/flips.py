"""Flips a champion alias many times while a load runs, and prints what callers saw. Run by `make flips`.

Starts a Titlebout of its own in a throw-away folder, or several on one PostgreSQL, with two versions of one model that
are told apart by their answers, and moves the alias between them. Ends with status 1 if a request failed, a connection
saw an older table again, an answer wasn't that of the version it named, or a replica answered from an old table for
longer than it may.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median

import httpx

from gateway.cli.client import Client
from gateway.cli.example import EXAMPLE, training_environment
from gateway.cli.load import Load
from gateway.cli.server_process import ServerProcess, free_port, server_process
from loadtests.stalls import Stalls, watched_stalls

OLD_TABLE_MS_MAX = 250
"""How long after a commit a live replica may still take a request by the table before."""

# Between versicolor and virginica: the two example models disagree here, so that an answer tells who gave it.
_ROW = [[5.5, 2.5, 4.8, 1.6]]
_FLIP_TIMEOUT_S = 60.0
_PAUSE_S = 0.01
# What could make a flip late, or its commit look early, is this close to it.
STALLED_BEFORE_S, STALLED_AFTER_S = 0.05, 0.4


async def flip_under_load(
    urls: Sequence[str], model: str, body: bytes, *, flips: int, connections: int
) -> tuple[list[Load], list[float]]:
    """A load for each replica, and for each flip the seconds from the alias call until all answer from the new one.

    *connections* to each replica, which pause between requests: callers at their ease, not a queue.
    """
    loads = [
        Load(f"{url}/endpoints/{model}/invocations", body, connections=connections, pause_s=_PAUSE_S) for url in urls
    ]
    took_s = []
    async with AsyncExitStack() as running:
        for load in loads:
            await running.enter_async_context(load.running())
        for number in range(flips):
            version, client = 2 - number % 2, Client(urls[number % len(urls)])
            epochs, began_s = [load.newest_epoch for load in loads], time.monotonic()
            await asyncio.to_thread(client.set_alias, model, "champion", version)
            for load, epoch in zip(loads, epochs, strict=True):
                await load.until_answered_by(version, after_epoch=epoch, timeout_s=_FLIP_TIMEOUT_S)
            took_s.append(time.monotonic() - began_s)
    return loads, took_s


def commits_s(servers: Sequence[ServerProcess]) -> dict[int, float]:
    """When each epoch was committed, by this machine's clock, as whichever replica did it has logged."""
    lines = [json.loads(line) for server in servers for line in server.log.splitlines() if '"epoch_committed"' in line]
    return {line["epoch"]: datetime.fromisoformat(line["time"]).timestamp() for line in lines}


def old_tables_ms(loads: Sequence[Load], commits: Mapping[int, float], stalls: Stalls) -> dict[int, float]:
    """For each commit, how long after it a request was last answered from a table before, by when it was asked.

    Commits around which the machine stood still are left out.
    """
    offset_s = time.time() - time.monotonic()
    latest_ms: dict[int, float] = {}
    for outcome in (outcome for load in loads for outcome in load.outcomes):
        epoch = outcome.epoch + 1
        if epoch in commits:
            asked_ms = 1000 * (outcome.ended_s - outcome.took_s + offset_s - commits[epoch])
            latest_ms[epoch] = max(latest_ms.get(epoch, asked_ms), asked_ms)
    counted: dict[int, float] = {}
    for epoch, late_ms in latest_ms.items():
        commit_s = commits[epoch] - offset_s
        if not stalls.overlap(commit_s - STALLED_BEFORE_S, commit_s + STALLED_AFTER_S):
            counted[epoch] = late_ms
    return counted


def report(
    loads: Sequence[Load],
    took_s: list[float],
    right: dict[int, bytes],
    commits: Mapping[int, float],
    stalls: Stalls,
) -> bool:
    """Print what callers saw; whether all of it was as it should be."""
    outcomes = [outcome for load in loads for outcome in load.outcomes]
    failures = [outcome for load in loads for outcome in load.failures]
    wrong = [o for o in outcomes if o.version is not None and o.content != right[o.version]]
    went_back = any(load.epochs_went_back() for load in loads)
    old_ms = old_tables_ms(loads, commits, stalls)
    old_table_ms = max(old_ms.values(), default=0.0)
    took_ms = sorted(1000 * seconds for seconds in took_s)
    requests_ms = sorted(1000 * outcome.took_s for outcome in outcomes)
    print(f"replicas                    {len(loads)}")
    print(f"flips                       {len(took_s)}")
    print(f"requests                    {len(outcomes)}")
    print(f"failed                      {len(failures)}")
    print(f"answers of another version  {len(wrong)}")
    print(f"epoch went back             {'yes' if went_back else 'never'}")
    print(f"old table after a commit    {old_table_ms:.0f} ms at most (may be {OLD_TABLE_MS_MAX})")
    print(f"commits counted for that    {len(old_ms)}, those around which the machine stood still left out")
    print(f"flip to answers everywhere  median {median(took_ms):.0f} ms, slowest {took_ms[-1]:.0f} ms")
    print(f"request                     median {median(requests_ms):.1f} ms, slowest {requests_ms[-1]:.0f} ms")
    return not failures and not wrong and not went_back and old_table_ms <= OLD_TABLE_MS_MAX


def right_answers(url: str) -> dict[int, bytes]:
    """What each version answers, asked of it alone."""
    path = f"{url}/endpoints/{EXAMPLE}/versions"
    answers = {v: httpx.post(f"{path}/{v}/invocations", json={"inputs": _ROW}).content for v in (1, 2)}
    if len(set(answers.values())) < 2:
        raise SystemExit("Both versions answer the same row alike, so nothing could be told from their answers.")
    return answers


def prepare(url: str) -> None:
    """Two trained versions, both in memory."""
    environment = training_environment(os.environ)
    subprocess.run([sys.executable, "-m", "gateway.cli.iris", url], check=True, capture_output=True, env=environment)
    client = Client(url)
    while not {"champion", "challenger"} <= client.endpoint(EXAMPLE)["serving"].keys():
        time.sleep(0.1)


def start(life: ExitStack, folder: Path, options: argparse.Namespace) -> list[ServerProcess]:
    """The replicas; the first is prepared before the others come, which then have both versions when they are ready."""
    given = ["--workers", str(options.workers)]
    if options.database_url:
        given += ["--database-url", options.database_url, "--migrate", "--artifact-root", str(folder / "artifacts")]
    servers: list[ServerProcess] = []
    for number in range(options.replicas):
        servers.append(life.enter_context(server_process(folder / str(number), *given, port=free_port())))
        if number == 0:
            prepare(servers[0].url)
    return servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--connections", type=int, default=8, help="to each replica")
    parser.add_argument("--workers", type=int, default=2, help="of each replica")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--database-url", help="an empty PostgreSQL, which several replicas need")
    options = parser.parse_args()
    if options.replicas > 1 and not options.database_url:
        parser.error("several replicas share a PostgreSQL: say --database-url")
    with tempfile.TemporaryDirectory(prefix="titlebout-flips-") as folder, ExitStack() as life:
        servers = start(life, Path(folder), options)
        right = right_answers(servers[0].url)
        with watched_stalls() as stalls:
            loads, took_s = asyncio.run(
                flip_under_load(
                    [server.url for server in servers],
                    EXAMPLE,
                    json.dumps({"inputs": _ROW}).encode(),
                    flips=options.flips,
                    connections=options.connections,
                )
            )
        well = report(loads, took_s, right, commits_s(servers), stalls)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
