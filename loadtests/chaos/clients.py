"""Callers as strict as they come: they keep their connections, pause between requests, and never send one again.

What a library would hide (a connection opened anew, a request repeated) is what is to be counted here.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

_TIMEOUT_S = 60.0
_REFUSED_PAUSE_S = 0.02


class Outcome(msgspec.Struct, frozen=True):
    """One request, as its sender saw it."""

    began_s: float
    """`time.monotonic` when it was sent, or its connection asked for."""
    ended_s: float
    status: int
    """0 if no whole answer came."""
    fault: str
    """What went wrong, empty if nothing did."""
    port: int
    """The sender's own, which tells connections apart; 0 if there was none."""
    is_first: bool
    """Whether nothing had been asked on this connection before."""
    epoch: int
    content: bytes
    version: int = 0
    """Who answered, where the sender looked."""


class Clients:
    """*count* senders, each with a connection of its own, which pauses *pause_s* on average between two requests.

    The pauses are what makes it strict: a connection is idle for most of the time, so whoever closes idle connections
    early will be caught at it.
    """

    def __init__(self, url: str, body: bytes, *, count: int = 8, pause_s: float = 0.01, seed: int = 0) -> None:
        place = urlsplit(url)
        self._address = place.hostname or "127.0.0.1", place.port or 80
        head = f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._count = count
        self._pause_s = pause_s
        self._seed = seed
        self.outcomes: list[Outcome] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Clients"]:
        """Ask for as long as the block lasts; every request that was begun is waited for."""
        stopping = asyncio.Event()
        senders = [asyncio.create_task(self._send(number, stopping)) for number in range(self._count)]
        try:
            yield self
        finally:
            stopping.set()
            await asyncio.gather(*senders)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not 200 <= outcome.status < 300]

    def report(self) -> dict[str, int]:
        """How many requests there were, how many failed, and of what."""
        faults = Counter(outcome.fault or str(outcome.status) for outcome in self.failures)
        return {"requests": len(self.outcomes), "failed": len(self.failures), **faults}

    async def until_answered(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until *more* requests than now were answered well."""
        enough = self._answered() + more
        async with asyncio.timeout(timeout_s):
            # Many senders add to a plain list, which tells nobody.
            while self._answered() < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def _answered(self) -> int:
        return len(self.outcomes) - len(self.failures)

    async def _send(self, number: int, stopping: asyncio.Event) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        connection = _Connection()
        try:
            while not stopping.is_set():
                outcome = await connection.ask(self._address, self._request)
                self.outcomes.append(outcome)
                refused_s = 0.0 if outcome.port else _REFUSED_PAUSE_S
                await asyncio.sleep(refused_s + chance.uniform(0, 2 * self._pause_s))
        finally:
            connection.close()


class _Connection:
    """Opened when it is needed, kept for as long as the server keeps it."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._port = 0
        self._is_fresh = True

    async def ask(self, address: tuple[str, int], request: bytes) -> Outcome:
        began_s = time.monotonic()
        status, fault, epoch, content = 0, "", 0, b""
        headers: dict[bytes, bytes] = {}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await self._opened(address)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                headers = _headers(head)
                content = await reader.readexactly(int(headers[b"content-length"]))
                status, epoch = int(head[9:12]), int(headers.get(b"x-titlebout-epoch", b"0"))
        except (OSError, asyncio.IncompleteReadError) as error:
            fault = type(error).__name__
        outcome = Outcome(began_s, time.monotonic(), status, fault, self._port, self._is_fresh, epoch, content)
        self._is_fresh = False
        if fault or headers.get(b"connection", b"").lower() == b"close":
            self.close()
        return outcome

    async def _opened(self, address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and self._reader.at_eof():
            # Closed by the server while nobody was asking: no request was lost.
            self.close()
        if self._reader is None or self._writer is None:
            self._port, self._is_fresh = 0, True
            self._reader, self._writer = await asyncio.open_connection(*address)
            self._port = self._writer.get_extra_info("sockname")[1]
        return self._reader, self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def while_asked(clients: Clients, work: Callable[[], None]) -> Clients:
    """Run *work* in a thread while *clients* ask, from the first answers before it to the first after it."""

    async def run() -> None:
        async with clients.running():
            await clients.until_answered(20)
            await asyncio.to_thread(work)
            with contextlib.suppress(TimeoutError):
                # Nobody may be left to answer; then that is for the caller to judge.
                await clients.until_answered(20, timeout_s=2.0)

    asyncio.run(run())
    return clients
