"""`titlebout demo`: the tour, in a throw-away folder. Ends with status 1 if anything that it shows did not hold."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import httpx
from rich.console import Console

from gateway.cli.client import Client
from gateway.cli.example import EXAMPLE, training_environment
from gateway.cli.load import Load
from gateway.cli.server_process import free_port, server_process

_BODY = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'
_SPLIT_REQUESTS = 4_000
_CONNECTIONS = 16
# How far the observed share may be from the asked one: four standard deviations of a fair draw.
_DEVIATIONS = 4.0
_FLIP_TIMEOUT_S = 60.0


class Tour:
    """Says what it does, and remembers whether it held."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began_s = time.monotonic()
        self.held = True

    def step(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/]")

    def say(self, text: str) -> None:
        self._console.print(f"  {text}", soft_wrap=True)

    def check(self, text: str, *, held: bool) -> None:
        self.held = self.held and held
        self._console.print(f"  {'[green]✓[/]' if held else '[red]✗ did not hold:[/]'} {text}", soft_wrap=True)

    def since_start(self) -> float:
        return time.monotonic() - self._began_s


@click.command()
def command() -> None:
    """Show the main job from end to end: train, register, alias, predict, split 80/20, flip under load."""
    tour = Tour(Console(highlight=False))
    with tempfile.TemporaryDirectory(prefix="titlebout-demo-") as folder:
        tour.step("1. Start Titlebout on SQLite and a folder")
        with server_process(Path(folder), port=free_port()) as server:
            tour.say(f"titlebout serve --data {folder}   →   {server.url}")
            tour.check(f"ready {tour.since_start():.1f} s after the start", held=True)
            _show(tour, server.url)
        tour.step("5. Stop it")
        tour.check("stopped on SIGTERM with exit status 0", held=server.process.returncode == 0)
    tour.step("Everything held." if tour.held else "Something did not hold; see the lines marked ✗.")
    sys.exit(0 if tour.held else 1)


def _show(tour: Tour, url: str) -> None:
    client = Client(url)
    tour.step("2. Train two versions with the stock MLflow client, register them, set the aliases")
    for line in _train(url):
        tour.say(line)
    _wait_until(lambda: {"champion", "challenger"} <= client.endpoint(EXAMPLE)["serving"].keys())
    serving = client.endpoint(EXAMPLE)["serving"]
    tour.check(f"both are in memory: {serving}, {tour.since_start():.1f} s after the start", held=True)
    answer = httpx.post(f"{url}/invocations", content=_BODY, headers={"Content-Type": "application/json"})
    tour.say(f"POST /invocations {_BODY.decode()}   →   {answer.text}")
    tour.check(
        f"answered by version {answer.headers.get('X-Titlebout-Version')} as {answer.headers.get('X-Titlebout-Arm')}",
        held=answer.json() == {"predictions": [0]},
    )
    asyncio.run(_split_and_flip(tour, client, url))


async def _split_and_flip(tour: Tour, client: Client, url: str) -> None:
    path = f"{url}/endpoints/{EXAMPLE}/invocations"
    tour.step(f"3. Split the traffic 80/20, and send {_SPLIT_REQUESTS:,} requests over {_CONNECTIONS} connections")
    split = client.change_split(EXAMPLE, {"champion": 8_000, "challenger": 2_000})
    split_epoch = _epoch_of_split(client, split["period"])
    async with Load(path, _BODY, connections=_CONNECTIONS).running() as load:
        while sum(outcome.epoch >= split_epoch for outcome in load.outcomes) < _SPLIT_REQUESTS:  # noqa: ASYNC110  (a count to watch, not a hand-over to wait for)
            await asyncio.sleep(0.05)
    load.outcomes = [outcome for outcome in load.outcomes if outcome.epoch >= split_epoch]
    share = load.shares().get("challenger", 0.0)
    tolerance = _DEVIATIONS * (0.2 * 0.8 / len(load.outcomes)) ** 0.5
    tour.check(
        f"the challenger answered {share:.1%} of {len(load.outcomes):,} requests (asked 20 %, ±{tolerance:.1%})",
        held=abs(share - 0.2) <= tolerance,
    )
    tour.check(f"{len(load.failures)} requests failed", held=not load.failures)

    tour.step("4. Promote the challenger while the load runs")
    new = client.endpoint(EXAMPLE)["desired"]["challenger"]
    async with Load(path, _BODY, connections=_CONNECTIONS).running() as load:
        await asyncio.sleep(0.5)
        epoch, began_s = load.newest_epoch, time.monotonic()
        await asyncio.to_thread(client.set_alias, EXAMPLE, "champion", new)
        tour.say(f"set_registered_model_alias({EXAMPLE!r}, 'champion', {new})")
        first = await load.until_answered_by(new, after_epoch=epoch, timeout_s=_FLIP_TIMEOUT_S)
        await asyncio.sleep(0.5)
    flip_ms = (first.ended_s - began_s) * 1000
    tour.check(f"version {new} answered as champion {flip_ms:.0f} ms after the alias was set", held=True)
    tour.check(f"{len(load.failures)} of {len(load.outcomes):,} requests failed", held=not load.failures)
    tour.check("no connection ever saw an older table again", held=not load.epochs_went_back())
    last = load.outcomes[-_CONNECTIONS:]
    tour.check("the champion has all the traffic now", held=all(o.version == new for o in last))


def _epoch_of_split(client: Client, period: int) -> int:
    """The epoch that serves the split of *period*, once it does."""
    _wait_until(lambda: client.endpoint(EXAMPLE)["serving_period"] == period)
    return int(client.status()["epoch"])


def _train(url: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.iris", url],
        capture_output=True,
        text=True,
        check=False,
        env=training_environment(os.environ),
    )
    if done.returncode:
        raise click.ClickException(f"Training failed:\n{done.stderr[-2000:]}")
    return [line for line in done.stdout.splitlines() if line.startswith("version ")]


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _FLIP_TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise click.ClickException("It took too long; `titlebout status` would say what is missing.")
        time.sleep(0.05)
