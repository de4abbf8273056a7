"""A closed load on one endpoint, that remembers who answered each request and when."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

_TIMEOUT_S = 30.0


class Outcome(msgspec.Struct, frozen=True):
    """One request as its sender saw it."""

    ended_s: float
    """`time.monotonic` when the answer was complete."""
    took_s: float
    status: int
    """0 if the connection failed."""
    version: int | None
    arm: str | None
    epoch: int
    connection: int
    content: bytes = b""
    """The body of the answer."""


class Load:
    """*connections* senders, each with one request in flight and *pause_s* before the next, until stopped."""

    def __init__(self, url: str, body: bytes, *, connections: int, pause_s: float = 0.0) -> None:
        self._url = url
        self._body = body
        self._connections = connections
        self._pause_s = pause_s
        self.outcomes: list[Outcome] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """Send for as long as the block lasts; every request that was begun is waited for."""
        stopping = asyncio.Event()
        senders = [asyncio.create_task(self._send(number, stopping)) for number in range(self._connections)]
        try:
            yield self
        finally:
            stopping.set()
            await asyncio.gather(*senders)

    async def _send(self, number: int, stopping: asyncio.Event) -> None:
        # One client for each, because a connection that is told apart is what shows whether an epoch ever goes back.
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=httpx.Limits(max_connections=1)) as http:
            while not stopping.is_set():
                self.outcomes.append(await self._request(http, number))
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)

    async def _request(self, http: httpx.AsyncClient, number: int) -> Outcome:
        began_s = time.monotonic()
        status, version, arm, epoch, content = 0, None, None, 0, b""
        try:
            answer = await http.post(self._url, content=self._body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError:
            pass
        else:
            status, content = answer.status_code, answer.content
            if answer.is_success:
                version, arm = int(answer.headers["X-Titlebout-Version"]), answer.headers["X-Titlebout-Arm"]
                epoch = int(answer.headers["X-Titlebout-Epoch"])
        ended_s = time.monotonic()
        return Outcome(ended_s, ended_s - began_s, status, version, arm, epoch, number, content)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not 200 <= outcome.status < 300]

    def shares(self) -> dict[str, float]:
        """What part of the answered requests each arm answered."""
        arms = Counter(outcome.arm for outcome in self.outcomes if outcome.arm)
        return {arm: count / arms.total() for arm, count in arms.items()}

    def epochs_went_back(self) -> bool:
        """Whether on any one connection an answer came from an older epoch than the one before."""
        last: dict[int, int] = {}
        for outcome in self.outcomes:
            if outcome.epoch < last.get(outcome.connection, 0):
                return True
            last[outcome.connection] = max(outcome.epoch, last.get(outcome.connection, 0))
        return False

    async def until_answered_by(self, version: int, *, after_epoch: int, timeout_s: float) -> Outcome:
        """Wait for the first answer of *version* from an epoch later than *after_epoch*.

        The epoch matters: a request in flight finishes on the table that it began with, and so may still be answered
        by a version that has stepped down.
        """
        seen = 0
        async with asyncio.timeout(timeout_s):
            while True:
                for outcome in self.outcomes[seen:]:
                    if outcome.version == version and outcome.epoch > after_epoch:
                        return outcome
                seen = len(self.outcomes)
                await asyncio.sleep(0.002)

    @property
    def newest_epoch(self) -> int:
        return max((outcome.epoch for outcome in self.outcomes), default=0)
