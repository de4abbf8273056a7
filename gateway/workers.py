"""The supervisor's side of the HTTP workers: all on one listening socket, told the same, replaced when they end."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from gateway.pool.messages import (
    Begin,
    Connected,
    Freshness,
    HostAddress,
    Hosts,
    Stuck,
    Switch,
    Switched,
    ToSupervisor,
    encode_line,
    open_line,
    receive,
)
from gateway.settings import Settings
from registry.entities import RoutingTable

_log = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(ToSupervisor)
_RESTART_PAUSE_FIRST_S = 0.2
_RESTART_PAUSE_MAX_S = 10.0
# A worker that lived this long had no trouble starting; the pause after it ends is the short one again.
_SETTLED_AFTER_S = 30.0


class _Worker:
    """One process, what it said last, and the line to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer
        self.sockets: frozenset[str] = frozenset()
        self.epoch = -1

    def tell(self, message: msgspec.Struct) -> None:
        if not self.writer.is_closing():
            self.writer.write(encode_line(message))


class WorkerGroup:
    """All HTTP workers of this replica."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        *,
        environment: Mapping[str, str],
        metrics_dir: Path,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._listener = listener
        # Where workers keep their metrics, one file a process, for whichever of them is asked for all.
        self._metrics_dir = metrics_dir
        self._environment = {**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir)}
        self._clock = clock
        self._workers: set[_Worker] = set()
        self._changed = asyncio.Condition()
        self._hosts = Hosts([])
        self._switch: Switch | None = None
        self._freshness = Freshness(None)
        self._begun = False
        self._keeping: list[asyncio.Task[None]] = []
        self.on_stuck: Callable[[str], None] = lambda _: None
        """Called with the socket of a host that let a request run into its time-out."""

    # --- what the reconciler and the slots say (`Switches`, `Connections`)

    def set_hosts(self, hosts: Iterable[HostAddress]) -> None:
        self._hosts = Hosts(list(hosts))
        self._tell_all(self._hosts)

    def switch(self, table: RoutingTable, at_s: float) -> None:
        self._switch = Switch(table, at_s)
        self._tell_all(self._switch)

    def set_stale_since(self, stale_since_s: float | None) -> None:
        self._freshness = Freshness(stale_since_s)
        self._tell_all(self._freshness)

    @property
    def epoch(self) -> int:
        return max(0, min((worker.epoch for worker in self._workers), default=0))

    async def until_connected(self, socket: str) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: bool(self._workers) and all(socket in worker.sockets for worker in self._workers)
            )

    async def until_left(self, socket: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: all(socket not in worker.sockets for worker in self._workers))

    async def until_serving(self) -> None:
        """Wait until every worker answers from some table."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    len(self._workers) == self._settings.workers and all(worker.epoch >= 0 for worker in self._workers)
                )
            )

    def _tell_all(self, message: msgspec.Struct) -> None:
        for worker in self._workers:
            worker.tell(message)

    # --- their lives

    def start(self) -> None:
        """Start the processes; they take no request before `begin`."""
        self._keeping = [asyncio.create_task(self._keep_one()) for _ in range(self._settings.workers)]

    def begin(self) -> None:
        """Let those that have started, and each successor, take requests."""
        self._begun = True
        self._tell_all(Begin())

    async def _keep_one(self) -> None:
        """Keep one worker alive: start it, follow it to its end, start the next."""
        pause_s = _RESTART_PAUSE_FIRST_S
        while True:
            started_s = self._clock()
            worker = await self._spawn()
            try:
                await self._follow(worker)
            finally:
                self._workers.discard(worker)
                worker.writer.close()
                await self._notify()
            status = await worker.process.wait()
            self._forget_gauges_of(worker.process.pid)
            _log.error("worker_ended", extra={"pid": worker.process.pid, "status": status})
            if self._clock() - started_s > _SETTLED_AFTER_S:
                pause_s = _RESTART_PAUSE_FIRST_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RESTART_PAUSE_MAX_S)

    def _forget_gauges_of(self, pid: int) -> None:
        # What `prometheus_client.multiprocess.mark_process_dead` does; the supervisor has no other use for the library.
        for path in self._metrics_dir.glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)

    async def _spawn(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.worker",
                str(theirs.fileno()),
                str(self._listener.fileno()),
                pass_fds=[theirs.fileno(), self._listener.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
            )
        reader, writer = await open_line(ours)
        worker = _Worker(process, reader, writer)
        # The settings go over the line and not as arguments: a database URL holds a password, and `ps` shows arguments.
        worker.tell(self._settings)
        worker.tell(self._hosts)
        worker.tell(self._freshness)
        if self._switch is not None:
            worker.tell(self._switch)
        if self._begun:
            worker.tell(Begin())
        self._workers.add(worker)
        return worker

    async def _follow(self, worker: _Worker) -> None:
        while (message := await receive(worker.reader, _DECODER)) is not None:
            match message:
                case Connected():
                    worker.sockets = frozenset(message.sockets)
                case Switched():
                    worker.epoch = message.epoch
                case Stuck():
                    self.on_stuck(message.socket)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def stop(self) -> None:
        """Ask all workers to finish what they have and end; those that don't in time are killed."""
        for task in self._keeping:
            task.cancel()
        workers = list(self._workers)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(self._end(worker) for worker in workers))

    async def _end(self, worker: _Worker) -> None:
        # A little longer than the worker gives itself, so that it ends by its own hand.
        timeout_s = self._settings.drain_timeout_s + 5
        try:
            async with asyncio.timeout(timeout_s):
                await worker.process.wait()
        except TimeoutError:
            _log.error("worker_killed", extra={"pid": worker.process.pid, "after_s": timeout_s})
            worker.process.kill()
            await worker.process.wait()
