"""The versions that a worker can call: one connection to each model host, and who is waiting on it."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from gateway.pool import frames
from gateway.pool.absences import Absences
from gateway.pool.messages import HostAddress
from gateway.pool.processor_time import peer_pid
from loaders.base import Answer, Batch, JsonAnswer
from loaders.errors import BadInput, InvalidArtifact
from loaders.mlmodel import parse_mlmodel
from loaders.signature import Signature
from registry.entities import VersionKey
from tracking.errors import ErrorCode, Exhausted, ServingError, TemporarilyUnavailable, TooLarge

_log = logging.getLogger(__name__)


class PredictionTimedOut(ServingError):
    code = ErrorCode.DEADLINE_EXCEEDED

    def __init__(self, key: VersionKey, timeout_s: float) -> None:
        super().__init__(f"Version {key[1]} of {key[0]!r} did not answer within {timeout_s:g} s.")


class DeadlinePassed(ServingError):
    code = ErrorCode.DEADLINE_EXCEEDED

    def __init__(self, key: VersionKey) -> None:
        super().__init__(f"The deadline passed before version {key[1]} of {key[0]!r} was asked.")


class TooManyWaiting(Exhausted):
    def __init__(self, key: VersionKey, waiting_max: int) -> None:
        super().__init__(f"{waiting_max} requests are waiting for version {key[1]} of {key[0]!r}; try again shortly.")


class InputTooLarge(TooLarge):
    def __init__(self, said: str) -> None:
        super().__init__(f"The input is too large for the model's process: {said}. Send fewer rows at a time.")


class HostGone(TemporarilyUnavailable):
    def __init__(self, key: VersionKey) -> None:
        super().__init__(f"The process of version {key[1]} of {key[0]!r} ended; it is being replaced.")


class ModelFailed(ServingError):
    """The model's own code raised. What it said is in the log, not in the answer."""

    code = ErrorCode.INTERNAL_ERROR


Outcome = Answer | ServingError
"""What became of a message."""


class ModelConnection(asyncio.Protocol):
    """A line to one version's host. Messages leave at once, and the host answers in order.

    A protocol and not a pair of streams, which would cost a task and two wake-ups for each answer.
    """

    def __init__(self, address: HostAddress, *, frame_bytes_max: int) -> None:
        self.key = address.key
        self.socket = address.socket
        self.description = address.description
        self.signature = Signature.from_mlmodel(parse_mlmodel(address.description.mlmodel.encode()))
        self._transport: asyncio.Transport | None = None
        self._reader = frames.FrameReader(frame_bytes_max)
        self._frame_bytes_max = frame_bytes_max
        self._pending: dict[int, Callable[[Outcome], None]] = {}
        self._next_id = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._gone: list[Callable[[ModelConnection], None]] = []
        self.when_stuck: Callable[[str], None] = lambda _: None
        """To be called with the socket when the host lets a message run into the longest time a predict may take."""
        self.when_broken: Callable[[str], None] = lambda _: None
        """Called with the socket when the host sends what is no frame."""

    @classmethod
    async def open(cls, address: HostAddress, *, frame_bytes_max: int) -> "ModelConnection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(
            lambda: cls(address, frame_bytes_max=frame_bytes_max), address.socket
        )
        return connection

    @property
    def closed(self) -> bool:
        return self._transport is None

    @property
    def host_pid(self) -> int | None:
        """Whose process answers here, by the kernel's word; None once it has ended."""
        return None if self._transport is None else peer_pid(self._transport.get_extra_info("socket"))

    @property
    def asked(self) -> int:
        """How many messages have been sent."""
        return self._next_id

    def send(
        self,
        batch: Batch,
        params: Mapping[str, Any],
        deadline_s: float,
        answered: Callable[[Outcome], None],
    ) -> None:
        """Ask the host; *answered* is called, once, with what became of it, however late.

        The host skips what it reads after *deadline_s* (by `time.monotonic`).

        Raises:
            InputTooLarge: if *batch* is over the bound on what is sent to a host.
            HostGone: if the host has ended.
        """
        if self._transport is None:
            raise HostGone(self.key)
        self._next_id += 1
        frame = frames.encode_predict(self._next_id, batch, dict(params), deadline_s)
        try:
            frames.check_bounds(frame, self._frame_bytes_max)
        except frames.FrameTooLarge as error:
            raise InputTooLarge(str(error)) from error
        self._pending[self._next_id] = answered
        self._transport.writelines(frame)

    def set_waited_for(self, waited_for: bool) -> None:
        """Say whether somebody waits for an answer, which keeps the connection open when its host is to be left."""
        if waited_for:
            self._idle.clear()
        else:
            self._idle.set()

    async def drain_and_close(self, timeout_s: float) -> None:
        """Wait, bounded, for the answers still to come, then hang up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("drain_timed_out", extra={"model": self.key[0], "version": self.key[1]})
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._end()

    def when_gone(self, tell: Callable[["ModelConnection"], None]) -> None:
        """Call *tell* when the host hangs up or the connection is closed."""
        if self.closed:
            tell(self)
        else:
            self._gone.append(tell)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for header, body in self._reader.feed(data):
                self._settle(header, body)
        except frames.BrokenFrame as error:
            _log.error("broken_frame", extra={"model": self.key[0], "version": self.key[1], "wrong": str(error)})
            self.when_broken(self.socket)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  (asyncio's)
        if self._transport is not None:
            _log.info("host_gone", extra={"model": self.key[0], "version": self.key[1]})
            self._end()

    def _end(self) -> None:
        """Whatever ended it, nobody may wait for answers that no one reads any more."""
        self._transport = None
        pending, self._pending = self._pending, {}
        for answered in pending.values():
            answered(HostGone(self.key))
        for tell in self._gone:
            tell(self)

    def _settle(self, header: frames.Header, body: memoryview) -> None:
        if header.id not in self._pending:
            raise frames.BrokenFrame("an answer that nobody asked for")
        # Read before it is taken off the list: if it is broken, whoever waits for it must hear of the end.
        outcome = self._outcome(header, body)
        self._pending.pop(header.id)(outcome)

    def _outcome(self, header: frames.Header, body: memoryview) -> Outcome:
        match header:
            case frames.AnswerHeader():
                return frames.decode_batch(header, body)
            case frames.JsonHeader():
                return JsonAnswer(bytes(body))
            case frames.FailureHeader(callers_fault=True):
                return BadInput(header.message)
            case frames.FailureHeader():
                return ModelFailed(header.message)
            case frames.ExpiredHeader():
                return DeadlinePassed(self.key)
            case frames.PredictHeader():
                raise frames.BrokenFrame("a host answers, it doesn't ask")


class ModelPool:
    """The connections of one worker. What should be connected is said by the supervisor, whole, each time."""

    def __init__(
        self,
        *,
        frame_bytes_max: int,
        drain_timeout_s: float,
        changed: Callable[[list[str]], None],
        stuck: Callable[[str], None],
        broken: Callable[[str], None] = lambda _: None,
        absences: Absences | None = None,
    ) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._drain_timeout_s = drain_timeout_s
        self._changed = changed
        self._stuck = stuck
        self._broken = broken
        self._absences = absences or Absences(wait_s=0.0, waiting_max=0)
        self._connections: dict[VersionKey, ModelConnection] = {}
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, int] = {}

    def find(self, key: VersionKey) -> ModelConnection | None:
        return self._connections.get(key)

    async def find_back(self, key: VersionKey, deadline_s: float) -> ModelConnection | None:
        """The connection to *key*'s next host, waited for if it lost its last one a moment ago."""
        return self.find(key) if await self._absences.is_over(key, deadline_s) else None

    def connections(self) -> Iterable[ModelConnection]:
        return self._connections.values()

    def used(self) -> list[str]:
        """The sockets of the hosts that were asked since this was called last."""
        asked = {connection.socket: connection.asked for connection in self._connections.values()}
        used = [socket for socket, count in asked.items() if count > self._asked.get(socket, 0)]
        self._asked = asked
        return used

    async def set_hosts(self, hosts: Iterable[HostAddress]) -> None:
        """Connect to each of *hosts* and leave all others once their answers have come."""
        wanted = {host.key: host for host in hosts}
        for key, connection in list(self._connections.items()):
            host = wanted.get(key)
            if host is None or host.socket != connection.socket:
                self._lose(key)
                self._leave(connection)
        for key, host in wanted.items():
            if key not in self._connections:
                await self._connect(key, host)
        self._report()

    async def _connect(self, key: VersionKey, host: HostAddress) -> None:
        try:
            connection = await ModelConnection.open(host, frame_bytes_max=self._frame_bytes_max)
        except OSError:
            # The host ended between the supervisor's word and ours; the supervisor will see it too.
            _log.warning("host_unreachable", extra={"model": host.model, "version": host.version})
            return
        except InvalidArtifact as error:
            # The model's code has described itself in its host's place. The other hosts are connected to all the same.
            _log.error("broken_frame", extra={"model": host.model, "version": host.version, "wrong": error.message})
            self._broken(host.socket)
            return
        self._connections[key] = connection
        self._absences.end(key)
        connection.when_gone(self._forget)
        connection.when_stuck = self._stuck
        connection.when_broken = self._broken

    def _leave(self, connection: ModelConnection) -> None:
        task = asyncio.create_task(connection.drain_and_close(self._drain_timeout_s))
        self._draining[connection.socket] = task

        def left(_: object) -> None:
            self._draining.pop(connection.socket, None)
            self._report()

        task.add_done_callback(left)

    def _forget(self, connection: ModelConnection) -> None:
        if self._connections.get(connection.key) is connection:
            self._lose(connection.key)
            self._report()

    def _lose(self, key: VersionKey) -> None:
        del self._connections[key]
        self._absences.begin(key)

    def _report(self) -> None:
        held = [connection.socket for connection in self._connections.values()]
        self._changed([*held, *self._draining])

    async def close(self) -> None:
        """Leave all hosts, waiting, bounded, for the answers still to come."""
        for connection in list(self._connections.values()):
            self._leave(connection)
        self._connections.clear()
        if self._draining:
            await asyncio.wait(list(self._draining.values()))
