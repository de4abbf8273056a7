"""How often a load test catches a version that is 30 % slower, and how often it fails one that is the same.

Starts a Titlebout of its own in a throw-away folder, with a champion and two challengers, of which one takes 30 % more
work for a row and the other is the same model, built again. Runs `titlebout loadtest` on each in turn. Ends with status
1 if more than one of twenty slowdowns was missed, or more than one of twenty rebuilds didn't pass.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import msgspec

from gateway.cli.client import Client
from gateway.cli.example import training_environment
from gateway.cli.server_process import free_port, server_process
from gateway.load_testing.report import Report
from gateway.load_testing.slowdown import WORTH_CATCHING

_MODEL = "steady"
_STEPS = 100_000
"""Some milliseconds a row, so that what the server adds to a request hardly counts."""
_CHAMPION, _SLOWER, _REBUILT = 1, 2, 3
_KINDS = {_SLOWER: "30 % slower", _REBUILT: "identical"}
_WRONG_MAX = 1 / 20
_SERVED_WITHIN_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each kind")
    parser.add_argument("--for", dest="for_", default="5s", metavar="TIME", help="a run's own time under load")
    parser.add_argument("--users", type=int, default=8)
    options = parser.parse_args()
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        server_process(Path(folder), "--workers", "2", port=free_port()) as server,
    ):
        client = Client(server.url)
        _register(server.url)
        client.set_alias(_MODEL, "champion", _CHAMPION)
        for version in _KINDS:
            # Once and for all runs, each of which would load them anew.
            client.pin(_MODEL, version)
        _wait_until_served(client)
        said: dict[int, Counter[str]] = {version: Counter() for version in _KINDS}
        for run in range(options.runs):
            for version, kind in _KINDS.items():
                report = _run(server.url, version, options.for_, options.users)
                assert report.comparison is not None
                said[version][report.comparison.slower] += 1
                by = report.comparison.processor
                print(
                    f"{run + 1:>3} {kind:<12} {report.comparison.slower:<11} processor time ×{by.ratio:.3f} "
                    f"(×{by.low or 0:.3f} to ×{by.high or 0:.3f}), latency ×{report.comparison.latency.ratio:.3f}, "
                    f"{by.pairs} pairs",
                    flush=True,
                )
    caught, passed = said[_SLOWER]["slower"], said[_REBUILT]["not_slower"]
    print(f"caught {caught} of {options.runs} slowdowns; passed {passed} of {options.runs} identical rebuilds")
    print(f"in {time.monotonic() - began_s:.0f} s")
    if min(caught, passed) < (1 - _WRONG_MAX) * options.runs:
        sys.exit(1)


def _register(url: str) -> None:
    steps = (_STEPS, round(WORTH_CATCHING * _STEPS), _STEPS)
    command = [sys.executable, "-m", "loadtests.chaos.training", url, *(f"{_MODEL}=steady:{count}" for count in steps)]
    subprocess.run(command, env=training_environment(os.environ), capture_output=True, check=True)


def _wait_until_served(client: Client) -> None:
    deadline_s = time.monotonic() + _SERVED_WITHIN_S
    while time.monotonic() < deadline_s:
        endpoint = client.find_endpoint_of(_MODEL)
        if endpoint is not None and endpoint["serving"] == {"champion": _CHAMPION}:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{_MODEL} was not served within {_SERVED_WITHIN_S:g} s.")


def _run(url: str, version: int, for_: str, users: int) -> Report:
    command = [sys.executable, "-m", "gateway.cli", "loadtest", _MODEL, str(version)]
    options = ["--for", for_, "--users", str(users), "--server", url]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise RuntimeError(done.stderr)
    load_tests = f"{url}/api/1.0/titlebout/models/{_MODEL}/versions/{version}/load-tests"
    newest = httpx.get(load_tests).json()["load_tests"][0]["number"]
    return msgspec.convert(httpx.get(f"{load_tests}/{newest}").json()["report"], Report)


if __name__ == "__main__":
    main()
