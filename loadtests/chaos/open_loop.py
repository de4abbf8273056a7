"""A load that keeps to the clock: a request is sent when it is due, whatever has come back of those before it.

Callers who wait for their answers ask less of a server that is slow, and so spare it what they were to find out. It is
cheap, because it shares the machine with what it measures: no task and no timer for each request, nothing parsed that
nobody looks at. Like its sender in `clients`, it never sends a request again.
"""

import asyncio
import contextlib
import math
import time
from array import array
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import cast
from urllib.parse import urlsplit

import uvloop

from loadtests.chaos.clients import Outcome

_LAST_ANSWERS_TIMEOUT_S = 65.0
_POLL_S = 0.01


def request_of(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A POST of JSON as it goes over the wire."""
    place = urlsplit(url)
    lines = [f"POST {place.path} HTTP/1.1", f"Host: {place.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class OpenLoop:
    """*rate_per_s* requests a second at random distances, drawn with *seed*, over as many connections as that takes.

    Connections are used in turns, so that each is idle for a while. Over *connections_max* a request isn't sent, which
    counts as a failure of its own kind.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        *,
        rate_per_s: float,
        seed: int = 0,
        headers: Mapping[str, str] | None = None,
        connections: int = 16,
        connections_max: int = 2_000,
        record: Callable[[Outcome], None] | None = None,
    ) -> None:
        place = urlsplit(url)
        self._address = place.hostname or "127.0.0.1", place.port or 80
        self._request = request_of(url, body, headers)
        self.rate_per_s = rate_per_s
        self._random = Random(seed)
        self._connections_first = connections
        self._connections_max = connections_max
        self.outcomes: list[Outcome] = []
        self._record = record or self.outcomes.append
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._next_due_s = math.inf
        self.answered = 0
        self.late_ms = array("d")
        """How long after each request was due it was sent: what is the sender's own delay, and in no outcome."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OpenLoop"]:
        """Ask for as long as the block lasts; what was asked is waited for, but not for ever."""
        for _ in range(self._connections_first):
            with contextlib.suppress(OSError):
                self._idle.append(await self._connect())
        self._next_due_s = time.monotonic()
        self._send_what_is_due()
        try:
            yield self
        finally:
            self._next_due_s = math.inf
            await self._until_all_came()
            for connection in (*self._idle, *self._busy):
                connection.close()

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not is_success(outcome)]

    async def until_answered(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until *more* requests than now were answered well."""
        enough = self.answered + more
        async with asyncio.timeout(timeout_s):
            # Answers come by the thousand, and are too many to wake somebody each.
            while self.answered < enough:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)

    # --- what leaves

    def _send_what_is_due(self) -> None:
        now_s = time.monotonic()
        while self._next_due_s <= now_s:
            self.late_ms.append(1000 * (now_s - self._next_due_s))
            self._next_due_s += self._random.expovariate(self.rate_per_s)
            self._send()
        if self._next_due_s < math.inf:
            asyncio.get_running_loop().call_later(self._next_due_s - now_s, self._send_what_is_due)

    def _send(self) -> None:
        if self._idle:
            connection = self._idle.popleft()
            self._busy.add(connection)
            connection.ask(self._request)
        elif len(self._busy) + len(self._opening) < self._connections_max:
            task = asyncio.create_task(self._send_on_a_new_one())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.settle(_lost(time.monotonic(), "no connection left"))

    async def _send_on_a_new_one(self) -> None:
        began_s = time.monotonic()
        try:
            connection = await self._connect()
        except OSError as error:
            self.settle(_lost(began_s, type(error).__name__))
            return
        self._busy.add(connection)
        connection.ask(self._request, began_s)

    async def _connect(self) -> "_Connection":
        _, connection = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), *self._address)
        return connection

    # --- what comes back

    def settle(self, outcome: Outcome) -> None:
        self.answered += is_success(outcome)
        self._record(outcome)

    def came_back(self, connection: "_Connection") -> None:
        """*connection* has its answer, and is free for the next request."""
        self._busy.discard(connection)
        self._idle.append(connection)

    def ended(self, connection: "_Connection") -> None:
        self._busy.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    async def _until_all_came(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_ANSWERS_TIMEOUT_S):
                while self._busy or self._opening:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)


class _Connection(asyncio.Protocol):
    """One request at a time, and of its answer no more than an `Outcome` tells."""

    def __init__(self, load: OpenLoop) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._began_s = 0.0
        self._is_asked = False
        self._is_first = True
        self._received = b""
        self._port = 0

    def ask(self, request: bytes, began_s: float | None = None) -> None:
        self._began_s, self._is_asked = began_s or time.monotonic(), True
        if self._transport is None:
            self._fail("closed while it was idle")
        else:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        head_ends = self._received.find(b"\r\n\r\n")
        if head_ends < 0:
            return
        head = self._received[:head_ends].lower()
        content_begins = head_ends + 4
        if len(self._received) - content_begins < _number(head, b"content-length"):
            return
        content, self._received, self._is_asked = self._received[content_begins:], b"", False
        outcome = Outcome(
            began_s=self._began_s,
            ended_s=time.monotonic(),
            status=int(head[9:12]),
            fault="",
            port=self._port,
            is_first=self._is_first,
            epoch=_number(head, b"x-titlebout-epoch"),
            content=content,
            version=_number(head, b"x-titlebout-version"),
        )
        self._is_first = False
        self._load.settle(outcome)
        if b"\r\nconnection: close" in head:
            self.close()
            self._load.ended(self)
        else:
            self._load.came_back(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(type(error).__name__ if error else "hung up")

    def _fail(self, fault: str) -> None:
        if self._is_asked:
            self._is_asked = False
            self._load.settle(_lost(self._began_s, fault, self._port, is_first=self._is_first))
        self._load.ended(self)


def _lost(began_s: float, fault: str, port: int = 0, *, is_first: bool = True) -> Outcome:
    """A request that no whole answer came to."""
    return Outcome(
        began_s=began_s,
        ended_s=time.monotonic(),
        status=0,
        fault=fault,
        port=port,
        is_first=is_first,
        epoch=0,
        content=b"",
    )


def is_success(outcome: Outcome) -> bool:
    return 200 <= outcome.status < 300


def kinds(outcomes: Sequence[Outcome]) -> str:
    """How many there were of each status or fault, in words."""
    counts = Counter(outcome.fault or str(outcome.status) for outcome in outcomes)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common()) or "none"


def took_ms(outcomes: Sequence[Outcome]) -> list[float]:
    """How long each took, quickest first."""
    return sorted(1000 * (outcome.ended_s - outcome.began_s) for outcome in outcomes)


def percentile(values: Sequence[float], percent: float) -> float:
    """What *percent* of the sorted *values* don't exceed (nearest rank); NaN if there are none."""
    return values[max(1, math.ceil(len(values) * percent / 100)) - 1] if values else math.nan


def capacity_per_s(url: str, body: bytes, *, connections: int, for_s: float) -> float:
    """How many are answered in a second when so many callers ask again as soon as they are answered."""

    async def measure() -> float:
        load = ClosedLoop(url, body, connections=connections, record=lambda _: None)
        async with load.running():
            # Up to speed first: the first answers wait for the connections of all.
            await asyncio.sleep(min(0.5, for_s / 4))
            before, began_s = load.answered, time.monotonic()
            await asyncio.sleep(for_s)
            return (load.answered - before) / (time.monotonic() - began_s)

    return uvloop.run(measure())


class ClosedLoop(OpenLoop):
    """As many requests under way as connections, always: as many as can be answered, and never too many."""

    def __init__(self, url: str, body: bytes, *, connections: int, record: Callable[[Outcome], None]) -> None:
        super().__init__(url, body, rate_per_s=math.inf, connections=connections, record=record)

    def _send_what_is_due(self) -> None:
        for _ in range(len(self._idle)):
            self._send()

    def came_back(self, connection: "_Connection") -> None:
        super().came_back(connection)
        if self._next_due_s < math.inf:
            self._send()


def _number(head: bytes, name: bytes) -> int:
    """The header *name* of *head*, which is in lower case; 0 if it isn't there."""
    begins = head.find(b"\r\n" + name + b":")
    if begins < 0:
        return 0
    begins += len(name) + 3
    ends = head.find(b"\r\n", begins)
    return int(head[begins : ends if ends >= 0 else None])
