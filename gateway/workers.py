"""The supervisor's side of the HTTP workers: all on one listening socket, told the same, replaced when they end."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path

import msgspec

from gateway.pool.messages import (
    Admission,
    Begin,
    Broken,
    Connected,
    Drain,
    Freshness,
    HostAddress,
    Hosts,
    Leaving,
    Notice,
    Serving,
    Signing,
    Stuck,
    Switch,
    Switched,
    ToSupervisor,
    Used,
    encode_line,
    open_line,
    receive,
)
from gateway.settings import Settings, environment_name
from registry.entities import PredictionKey, RoutingTable
from tracking.access.book import Book

_log = logging.getLogger(__name__)

_ADMIN_TOKEN = environment_name("admin_token")
_DECODER = msgspec.json.Decoder(ToSupervisor)
_RESTART_PAUSE_FIRST_S = 0.2
_RESTART_PAUSE_MAX_S = 10.0
# A worker that lived this long had no trouble starting; the pause after it ends is the short one again.
_SETTLED_AFTER_S = 30.0
# A little longer than a worker gives itself, so that it ends by its own hand.
_END_MARGIN_S = 5.0
# Epochs are committed three polls ahead of their instant, so hardly ever is there more than one still to come.
_SWITCHES_AHEAD_MAX = 16


class _Worker:
    """One process, what it said last, and the line to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        started_s: float,
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer
        self.started_s = started_s
        self.sockets: frozenset[str] = frozenset()
        self.epoch = -1
        self.serving = False
        """Whether it accepts connections, or did until it was let go."""
        self.leaving = False
        """Whether another is to take its place first."""
        self.let_go = False
        """Whether it was told to end."""
        self.ended = False

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
        # Theirs is to know tokens by their hash.
        self._settings = msgspec.structs.replace(settings, admin_token="")
        self._listener = listener
        # Where each process keeps its metrics in a file, for whichever worker is asked for all.
        self._metrics_dir = metrics_dir
        self._environment = {name: value for name, value in environment.items() if name != _ADMIN_TOKEN}
        self._clock = clock
        self._workers: set[_Worker] = set()
        self._changed = asyncio.Condition()
        self._hosts = Hosts([])
        self._used_s: dict[str, float] = {}
        self._switches: list[Switch] = []
        self._freshness = Freshness(None)
        self._admission = Admission(Book())
        self._signing = Signing(None)
        self._begun = False
        self._noticed = False
        self._idle_grace_s = settings.idle_grace_s
        self._keeping: list[asyncio.Task[None]] = []
        # The event loop keeps only weak references to tasks.
        self._following: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self.on_stuck: Callable[[str], None] = lambda _: None
        """Called with the socket of a host that let a request run into its time-out."""
        self.when_ended: Callable[[int], None] = lambda _: None
        """Called with the process id of a worker that has ended."""
        self.on_broken: Callable[[str], None] = lambda _: None
        """Called with the socket of a host that sent what is no frame."""

    # --- what the reconciler and the slots say (`Switches`, `Connections`)

    def set_hosts(self, hosts: Iterable[HostAddress]) -> None:
        self._hosts = Hosts(list(hosts))
        self._used_s = {host.socket: self.last_used_s(host.socket) for host in self._hosts.hosts}
        self._tell_all(self._hosts)

    def switch(self, table: RoutingTable, at_s: float) -> None:
        switch, now_s = Switch(table, at_s), self._clock()
        # A worker that starts now needs the table in force as well as those whose instant is still to come.
        in_force = [earlier for earlier in self._switches if earlier.at_s <= now_s][-1:]
        to_come = [earlier for earlier in self._switches if earlier.at_s > now_s][-_SWITCHES_AHEAD_MAX:]
        self._switches = [*in_force, *to_come, switch]
        self._tell_all(switch)

    def set_stale_since(self, stale_since_s: float | None) -> None:
        self._freshness = Freshness(stale_since_s)
        self._tell_all(self._freshness)

    def set_book(self, book: Book) -> None:
        self._admission = Admission(book)
        self._tell_all(self._admission)

    def set_prediction_key(self, key: PredictionKey | None) -> None:
        self._signing = Signing(key)
        self._tell_all(self._signing)

    @property
    def table(self) -> RoutingTable:
        """The one in force; an empty one before there is any."""
        now_s = self._clock()
        in_force = [switch.table for switch in self._switches if switch.at_s <= now_s]
        return in_force[-1] if in_force else RoutingTable()

    @property
    def epoch(self) -> int:
        return max(0, min((worker.epoch for worker in self._workers if worker.serving), default=0))

    async def until_connected(self, socket: str) -> None:
        await self._until(lambda: bool(self._workers) and all(socket in worker.sockets for worker in self._workers))

    async def until_left(self, socket: str) -> None:
        await self._until(lambda: all(socket not in worker.sockets for worker in self._workers))

    async def until_serving(self) -> None:
        """Wait until as many workers as there should be answer from some table."""

        def serving() -> int:
            return sum(worker.serving and worker.epoch >= 0 for worker in self._workers)

        await self._until(lambda: serving() >= self._settings.workers)

    def last_used_s(self, socket: str) -> float:
        return self._used_s.get(socket, 0.0)

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

    async def replace_all(self) -> None:
        """Put a new worker in the place of each, one after the other, so that there is never more than one too many."""
        for worker in [worker for worker in self._workers if not worker.leaving]:
            await self._replaced(worker)

    async def _replaced(self, worker: _Worker) -> None:
        worker.leaving = True
        await self._notify()
        await self._until(lambda: worker.ended or not worker.leaving)

    async def _keep_one(self) -> None:
        """Keep one place filled: by another worker when the one there ends, or before it leaves."""
        pause_s = _RESTART_PAUSE_FIRST_S
        worker = await self._spawn()
        while True:
            await self._until_vacant(worker)
            if not worker.ended:
                worker = await self._relieve(worker)
                continue
            if self._clock() - worker.started_s > _SETTLED_AFTER_S:
                pause_s = _RESTART_PAUSE_FIRST_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RESTART_PAUSE_MAX_S)
            worker = await self._spawn()

    async def _until_vacant(self, worker: _Worker) -> None:
        await self._until(lambda: worker.ended or worker.leaving)

    async def _relieve(self, worker: _Worker) -> _Worker:
        """Who has *worker*'s place from now on: a successor that serves, or *worker* itself if none came up."""
        successor = await self._spawn()
        await self._until(lambda: successor.serving or successor.ended)
        if not successor.serving:
            # Better one that should have left than none.
            _log.error("worker_not_replaced", extra={"pid": worker.process.pid})
            worker.leaving = False
            await self._notify()
            return worker
        _log.info("worker_replaced", extra={"pid": worker.process.pid, "by": successor.process.pid})
        self._let_go(worker)
        return successor

    async def _spawn(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.worker",
                str(theirs.fileno()),
                str(self._listener.fileno()),
                str(self._metrics_dir),
                pass_fds=[theirs.fileno(), self._listener.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
            )
        reader, writer = await open_line(ours)
        worker = _Worker(process, reader, writer, self._clock())
        # The settings go over the line and not as arguments: a database URL holds a password, and `ps` shows arguments.
        for message in (self._settings, self._hosts, self._freshness, self._admission, self._signing, *self._switches):
            worker.tell(message)
        if self._noticed:
            worker.tell(Notice())
        if self._begun:
            worker.tell(Begin())
        self._workers.add(worker)
        _keep(self._following, self._follow(worker))
        return worker

    async def _follow(self, worker: _Worker) -> None:
        """Heed what *worker* says, to its end."""
        while (message := await receive(worker.reader, _DECODER)) is not None:
            self._heed(worker, message)
            await self._notify()
        self._workers.discard(worker)
        worker.writer.close()
        await self._notify()
        status = await worker.process.wait()
        worker.ended = True
        self.when_ended(worker.process.pid)
        if worker.let_go:
            _log.info("worker_left", extra={"pid": worker.process.pid, "status": status})
        else:
            _log.error("worker_ended", extra={"pid": worker.process.pid, "status": status})
        await self._notify()

    def _heed(self, worker: _Worker, message: ToSupervisor) -> None:
        match message:
            case Serving():
                worker.serving = True
            case Leaving():
                # During a stop it needs no successor, and is told when to go.
                worker.leaving = not self._noticed
            case Connected():
                worker.sockets = frozenset(message.sockets)
            case Switched():
                worker.epoch = message.epoch
            case Stuck():
                self.on_stuck(message.socket)
            case Broken():
                self.on_broken(message.socket)
            case Used():
                self._used_s.update(dict.fromkeys(message.sockets, self._clock()))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)

    # --- their ends

    def give_notice(self) -> None:
        """Have all workers say that they aren't ready, and send connections elsewhere; they answer on."""
        self._noticed = True
        self._tell_all(Notice())

    def hurry(self) -> None:
        """Wait for nobody who might still ask: whoever is let go, now or earlier, closes idle connections at once."""
        self._idle_grace_s = 0.0
        for worker in self._workers:
            if worker.let_go:
                worker.tell(Drain(self._idle_grace_s))

    def kill(self) -> None:
        """End all workers now, whatever they are at."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()

    async def stop(self) -> None:
        """Let all workers finish what they have and end; those that don't in time are killed."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        # With ours open, new connections would wait for nobody; so they are refused, and may go elsewhere.
        self._listener.close()
        for worker in self._workers:
            if not worker.let_go:
                self._let_go(worker)
        await asyncio.gather(*self._ending, *self._following)

    def _let_go(self, worker: _Worker) -> None:
        worker.let_go = True
        worker.tell(Drain(self._idle_grace_s))
        if not worker.serving:
            # It has nothing to finish, and may be importing for another second before it reads that line.
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        _keep(self._ending, self._end(worker))

    async def _end(self, worker: _Worker) -> None:
        timeout_s = self._settings.drain_timeout_s + _END_MARGIN_S
        try:
            async with asyncio.timeout(timeout_s):
                await worker.process.wait()
        except TimeoutError:
            _log.error("worker_killed", extra={"pid": worker.process.pid, "after_s": timeout_s})
            worker.process.kill()


def _keep(tasks: set[asyncio.Task[None]], coroutine: Coroutine[None, None, None]) -> None:
    """Run *coroutine* as a task that is held for as long as it runs."""
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
