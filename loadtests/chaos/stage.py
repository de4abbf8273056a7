"""Where a scenario plays: a folder, servers, models, loads, and the one seed of all chance."""

import asyncio
import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import httpx
import msgspec
import uvloop

from gateway.cli.client import Client
from gateway.cli.example import training_environment
from gateway.cli.server_process import ServerProcess, free_port, server_process
from loadtests.chaos.open_loop import OpenLoop, capacity_per_s
from loadtests.chaos.restarts import until

IRIS_BODY = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'

_CAPACITY_CONNECTIONS = 8
# A quick run may have others beside it, who leave less and less of what there was a moment ago.
_QUICK_PER_S_MAX = 200.0
_FIRST_ANSWERS = 20
_HTTP_TIMEOUT_S = 60.0

_T = TypeVar("_T")


class Registered(msgspec.Struct, frozen=True):
    """A version, and what it was foretold offline to say of some rows."""

    name: str
    version: int
    rows: list[list[float]]
    predictions: list[Any]


class Stage:
    """One scenario's own. *is_quick* asks for as little as shows the thing."""

    def __init__(self, folder: Path, *, seed: int, is_quick: bool) -> None:
        self.folder = folder
        self.is_quick = is_quick
        self._random = Random(seed)

    def seed(self) -> int:
        """Another one each time, and the same ones in each run with the same seed."""
        return self._random.randrange(2**32)

    @property
    def load_share(self) -> float:
        """Of what is the most that can be answered, so much is asked for: 60 %, with room for others in a quick run."""
        return self.choose(thorough=0.6, quick=0.3)

    def choose(self, *, thorough: float, quick: float) -> float:
        return quick if self.is_quick else thorough

    @contextmanager
    def server(
        self, *options: str, name: str = "server", environment: Mapping[str, str] | None = None
    ) -> Iterator[ServerProcess]:
        """A Titlebout with its defaults but for what is said, in the folder *name*."""
        with server_process(self.folder / name, *options, port=free_port(), environment=environment) as server:
            yield server

    def load(self, url: str, body: bytes = IRIS_BODY, *, share: float | None = None) -> OpenLoop:
        """A load of *share* of what can be answered, which is measured first."""
        for_s = self.choose(thorough=3, quick=1)
        capacity = capacity_per_s(url, body, connections=_CAPACITY_CONNECTIONS, for_s=for_s)
        rate_per_s = (share or self.load_share) * capacity
        most_per_s = self.choose(thorough=math.inf, quick=_QUICK_PER_S_MAX)
        return OpenLoop(url, body, rate_per_s=min(rate_per_s, most_per_s), seed=self.seed())


def while_loaded(loads: Sequence[OpenLoop], work: Callable[[], _T]) -> _T:
    """What comes of *work*, done in a thread while *loads* ask: after their first answers, and to a few after it."""

    async def play() -> _T:
        async with AsyncExitStack() as running:
            for load in loads:
                await running.enter_async_context(load.running())
                await load.until_answered(_FIRST_ANSWERS)
            done = await asyncio.to_thread(work)
            for load in loads:
                with contextlib.suppress(TimeoutError):
                    # Nobody may be left to answer; then that is for the caller to judge.
                    await load.until_answered(_FIRST_ANSWERS, timeout_s=2.0)
            return done

    return uvloop.run(play())


def register(url: str, *wishes: str) -> list[Registered]:
    """A version for each of *wishes*, in order; `loadtests.chaos.training` says how they are written."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.chaos.training", url, *wishes],
        check=False,
        capture_output=True,
        env=training_environment(os.environ),
    )
    if done.returncode:
        raise RuntimeError(f"{', '.join(wishes)}: not trained: {done.stderr.decode(errors='replace')[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    return [msgspec.json.decode(line, type=Registered) for line in lines]


def serve(url: str, name: str, **versions: int) -> None:
    """Set the aliases, and wait until each is answered from its version."""
    for alias, version in versions.items():
        client(url).set_alias(name, alias, version)
    until_served(url, name, **versions)


def until_served(url: str, name: str, **versions: int) -> None:
    until(lambda: serving(url, name) == versions, f"{name} served by {versions}")


def serving(url: str, name: str) -> dict[str, int]:
    """Which version answers for each arm; nothing where there is no such endpoint yet."""
    endpoint = client(url).find_endpoint_of(name)
    return {} if endpoint is None else endpoint["serving"]


@cache
def client(url: str) -> Client:
    """The one client of the server at *url*.

    Making one reads the certificates of all authorities, which takes 20 ms of the processors that are to be measured.
    """
    return Client(url)


@cache
def http() -> httpx.Client:
    """For all other questions; who is asked may be another server by the next one."""
    return httpx.Client(timeout=_HTTP_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0))


def invocations(url: str, name: str) -> str:
    return f"{url}/endpoints/{name}/invocations"


class EventCount:
    """How many lines of event *name* with these *fields* come from now on; no more of the log is read than is new.

    A log under load grows by megabytes, and who reads it takes the processors that are to be measured.
    """

    def __init__(self, server: ServerProcess, name: str, **fields: Any) -> None:
        self._log = server.data / "serve.log"
        self._mark = f'"{name}"'.encode()
        self._wanted = {"event": name, **fields}
        self._read_bytes = self._log.stat().st_size
        self._count = 0

    def now(self) -> int:
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            # What follows the last line feed is a line that is still being written.
            lines, _, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(lines) + 1 if lines else 0
        found = (json.loads(line) for line in lines.split(b"\n") if self._mark in line)
        self._count += sum(self._wanted.items() <= line.items() for line in found)
        return self._count


def events(server: ServerProcess, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The lines of event *name* in the server's log that have these *fields*, in order."""
    # Most lines are predictions; they needn't be read as JSON.
    lines = [json.loads(line) for line in server.log.splitlines() if f'"{name}"' in line]
    return [line for line in lines if line["event"] == name and fields.items() <= line.items()]
