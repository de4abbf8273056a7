"""The versions that a worker can call: one connection to each model host, and who is waiting on it."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gateway.pool import frames
from gateway.pool.messages import HostAddress
from loaders.base import Answer, Batch, JsonAnswer
from loaders.errors import BadInput
from loaders.mlmodel import parse_mlmodel
from loaders.signature import Signature
from registry.entities import VersionKey
from tracking.errors import ErrorCode, Exhausted, ServingError, TemporarilyUnavailable, TooLarge

_log = logging.getLogger(__name__)


class PredictionTimedOut(ServingError):
    code = ErrorCode.DEADLINE_EXCEEDED

    def __init__(self, key: VersionKey, timeout_s: float) -> None:
        super().__init__(f"Version {key[1]} of {key[0]!r} did not answer within {timeout_s:g} s.")


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


class ModelConnection:
    """A line to one version's host. Requests are sent as they come, and the host answers in order."""

    def __init__(
        self,
        address: HostAddress,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        waiting_max: int,
        frame_bytes_max: int,
    ) -> None:
        self.key = address.key
        self.socket = address.socket
        self.description = address.description
        self.signature = Signature.from_mlmodel(parse_mlmodel(address.description.mlmodel.encode()))
        self._reader = reader
        self._writer = writer
        self._waiting_max = waiting_max
        self._frame_bytes_max = frame_bytes_max
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 0
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.when_stuck: Callable[[str], None] = lambda _: None
        """Called with the socket when the host lets a request run into its time-out."""
        self._closed = False
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def open(cls, address: HostAddress, *, waiting_max: int, frame_bytes_max: int) -> "ModelConnection":
        reader, writer = await asyncio.open_unix_connection(address.socket)
        return cls(address, reader, writer, waiting_max=waiting_max, frame_bytes_max=frame_bytes_max)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        return self._closed

    async def predict(self, batch: Batch, params: Mapping[str, Any], *, timeout_s: float) -> Answer:
        """The host's answer for *batch*.

        Raises:
            TooManyWaiting: at once, when the bound on waiting requests is reached.
            InputTooLarge: if *batch* is over the bound on what is sent to a host.
            HostGone: if the host ended before it answered.
            PredictionTimedOut: if it took longer than *timeout_s*.
            BadInput: if the model found the input unusable.
            ModelFailed: if the model's code raised.
        """
        if self._closed:
            raise HostGone(self.key)
        if len(self._waiting) >= self._waiting_max:
            raise TooManyWaiting(self.key, self._waiting_max)
        self._next_id += 1
        request_id = self._next_id
        frame = frames.encode_predict(request_id, batch, dict(params))
        try:
            frames.check_bounds(frame, self._frame_bytes_max)
        except frames.FrameTooLarge as error:
            raise InputTooLarge(str(error)) from error
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            with self.leased():
                self._writer.writelines(frame)
                async with asyncio.timeout(timeout_s):
                    return await future
        except TimeoutError:
            self.when_stuck(self.socket)
            raise PredictionTimedOut(self.key, timeout_s) from None
        finally:
            self._waiting.pop(request_id, None)

    @contextmanager
    def leased(self) -> Iterator[None]:
        """Keep the connection open for as long as the block lasts, also when its host is to be left."""
        self._leases += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._leases -= 1
            if not self._leases:
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
        self._closed = True
        self._receiving.cancel()
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostGone(self.key))

    def when_gone(self, tell: Callable[["ModelConnection"], None]) -> None:
        """Call *tell* when the host hangs up or the connection is closed."""
        self._receiving.add_done_callback(lambda _: tell(self))

    async def _receive(self) -> None:
        try:
            while True:
                prefix = await self._reader.readexactly(frames.PREFIX_BYTES)
                header_bytes, body_bytes = frames.frame_lengths(prefix, self._frame_bytes_max)
                header = frames.decode_header(await self._reader.readexactly(header_bytes))
                body = await self._reader.readexactly(body_bytes)
                self._settle(header, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            _log.info("host_gone", extra={"model": self.key[0], "version": self.key[1]})
        except frames.BrokenFrame as error:
            _log.error("broken_frame", extra={"model": self.key[0], "version": self.key[1], "wrong": str(error)})
        finally:
            # Whatever ended it, nobody may wait for answers that no one reads any more.
            self.close()

    def _settle(self, header: frames.Header, body: bytes) -> None:
        if isinstance(header, frames.PredictHeader):
            raise frames.BrokenFrame("a host answers, it doesn't ask")
        future = self._waiting.get(header.id)
        if future is None or future.done():
            return  # Whoever asked has given up.
        match header:
            case frames.AnswerHeader():
                future.set_result(frames.decode_batch(header, memoryview(body)))
            case frames.JsonHeader():
                future.set_result(JsonAnswer(body))
            case frames.FailureHeader(callers_fault=True):
                future.set_exception(BadInput(header.message))
            case frames.FailureHeader():
                future.set_exception(ModelFailed(header.message))


class ModelPool:
    """The connections of one worker. What should be connected is said by the supervisor, whole, each time."""

    def __init__(
        self,
        *,
        waiting_max: int,
        frame_bytes_max: int,
        drain_timeout_s: float,
        changed: Callable[[list[str]], None],
        stuck: Callable[[str], None],
    ) -> None:
        self._waiting_max = waiting_max
        self._frame_bytes_max = frame_bytes_max
        self._drain_timeout_s = drain_timeout_s
        self._changed = changed
        self._stuck = stuck
        self._connections: dict[VersionKey, ModelConnection] = {}
        self._draining: dict[str, asyncio.Task[None]] = {}

    def find(self, key: VersionKey) -> ModelConnection | None:
        return self._connections.get(key)

    def connections(self) -> Iterable[ModelConnection]:
        return self._connections.values()

    async def set_hosts(self, hosts: Iterable[HostAddress]) -> None:
        """Connect to each of *hosts* and leave all others once their answers have come."""
        wanted = {host.key: host for host in hosts}
        for key, connection in list(self._connections.items()):
            host = wanted.get(key)
            if host is None or host.socket != connection.socket:
                del self._connections[key]
                self._leave(connection)
        for key, host in wanted.items():
            if key not in self._connections:
                await self._connect(key, host)
        self._report()

    async def _connect(self, key: VersionKey, host: HostAddress) -> None:
        try:
            connection = await ModelConnection.open(
                host, waiting_max=self._waiting_max, frame_bytes_max=self._frame_bytes_max
            )
        except OSError:
            # The host ended between the supervisor's word and ours; the supervisor will see it too.
            _log.warning("host_unreachable", extra={"model": host.model, "version": host.version})
            return
        self._connections[key] = connection
        connection.when_gone(self._forget)
        connection.when_stuck = self._stuck

    def _leave(self, connection: ModelConnection) -> None:
        task = asyncio.create_task(connection.drain_and_close(self._drain_timeout_s))
        self._draining[connection.socket] = task

        def left(_: object) -> None:
            self._draining.pop(connection.socket, None)
            self._report()

        task.add_done_callback(left)

    def _forget(self, connection: ModelConnection) -> None:
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]
            self._report()

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
