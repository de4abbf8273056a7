"""Flips a champion alias many times while a load runs, and prints what callers saw. Run by `make flips`.

Starts a Titlebout of its own in a throw-away folder, with two versions of one model that are told apart by their
answers, and moves the alias between them. Ends with status 1 if a request failed, a connection saw an older table
again, or an answer wasn't that of the version it named.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from gateway.cli.client import Client
from gateway.cli.example import EXAMPLE, training_environment
from gateway.cli.load import Load
from gateway.cli.server_process import free_port, server_process

# Between versicolor and virginica: the two example models disagree here, so that an answer tells who gave it.
_ROW = [[5.5, 2.5, 4.8, 1.6]]
_FLIP_TIMEOUT_S = 60.0


async def flip_under_load(url: str, flips: int, connections: int) -> tuple[Load, list[float]]:
    """The load, and for each flip the seconds from the alias call to the first answer of the new champion."""
    client = Client(url)
    body = json.dumps({"inputs": _ROW}).encode()
    took_s = []
    async with Load(f"{url}/endpoints/{EXAMPLE}/invocations", body, connections=connections).running() as load:
        for number in range(flips):
            version = 2 - number % 2
            epoch, began_s = load.newest_epoch, time.monotonic()
            await asyncio.to_thread(client.set_alias, EXAMPLE, "champion", version)
            first = await load.until_answered_by(version, after_epoch=epoch, timeout_s=_FLIP_TIMEOUT_S)
            took_s.append(first.ended_s - began_s)
    return load, took_s


def report(load: Load, took_s: list[float], right: dict[int, bytes]) -> bool:
    """Print what callers saw; whether all of it was as it should be."""
    wrong = [o for o in load.outcomes if o.version is not None and o.content != right[o.version]]
    took_ms = sorted(1000 * seconds for seconds in took_s)
    requests_ms = sorted(1000 * outcome.took_s for outcome in load.outcomes)
    print(f"flips                       {len(took_s)}")
    print(f"requests                    {len(load.outcomes)}")
    print(f"failed                      {len(load.failures)}")
    print(f"answers of another version  {len(wrong)}")
    print(f"epoch went back             {'yes' if load.epochs_went_back() else 'never'}")
    print(f"flip to first answer        median {median(took_ms):.0f} ms, slowest {took_ms[-1]:.0f} ms")
    print(f"request                     median {median(requests_ms):.1f} ms, slowest {requests_ms[-1]:.0f} ms")
    return not load.failures and not wrong and not load.epochs_went_back()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="titlebout-flips-") as folder:
        with server_process(Path(folder), "--workers", str(options.workers), port=free_port()) as server:
            prepare(server.url)
            right = right_answers(server.url)
            load, took_s = asyncio.run(flip_under_load(server.url, options.flips, options.connections))
    sys.exit(0 if report(load, took_s, right) else 1)


if __name__ == "__main__":
    main()
