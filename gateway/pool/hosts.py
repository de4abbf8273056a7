"""The supervisor's side of model hosts: warm parents to fork from, and a handle on each host."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from gateway.pool import host_limits, scheduling, threads
from gateway.pool.messages import (
    Ended,
    Failed,
    Fork,
    FromHost,
    Loading,
    ModelDescription,
    Ready,
    Restraints,
    Spawn,
    Warming,
    open_line,
    receive,
)
from gateway.pool.version_policy import SlotState
from tracking.errors import ErrorCode, ServingError

_log = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(FromHost)

# All that a host gets of our environment: where programs and libraries are, and how they compute. No credentials, no
# database URL.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")
_PASSED_PREFIXES = ("OMP_", "OPENBLAS_", "MKL_", "TORCH_")


class LoadFailed(ServingError):
    """A version that can't be loaded, with the reason for people."""

    code = ErrorCode.INVALID_STATE


class LacksSignature(LoadFailed):
    """One that would load if a trusted key had signed it."""


class HostEnded(LoadFailed):
    def __init__(self, how: str) -> None:
        super().__init__(f"The model's process {how}; the log has its last words.")


class HostUnfit(LoadFailed):
    """A host that we end, for what it does."""


class HostOverMemory(HostUnfit):
    def __init__(self, held: int, bytes_max: int) -> None:
        super().__init__(
            f"The model's process held {host_limits.human(held)} of memory, and was ended: "
            f"{host_limits.human(bytes_max)} are the most (TITLEBOUT_HOST_MEMORY_BYTES_MAX)."
        )
        self.held_bytes = held


class HostStuck(HostUnfit):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"The model's process was at one prediction for {timeout_s:g} s, and was ended: that is the longest "
            "(TITLEBOUT_PREDICT_TIMEOUT_S)."
        )


class HostForged(HostUnfit):
    def __init__(self) -> None:
        super().__init__("The model's process said what none of ours says, and was ended.")


class HostProcess:
    """One host: what it says of itself, how and why it ended, and how to end it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        scratch: Path | None = None,
        memory_bytes_max: int = 0,
        gives_way: bool = False,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._scratch = scratch
        self._memory_bytes_max = memory_bytes_max
        self._gives_way = gives_way
        self._coming_back: asyncio.TimerHandle | None = None
        self._pid: int | None = None
        self._exit_status: int | None = None
        self._ended_for: HostUnfit | None = None
        self._ended = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._watching_memory: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._pid

    async def until_ready(self, changed: Callable[[SlotState], None]) -> ModelDescription:
        """Follow the load; *changed* hears of each state on the way.

        Raises:
            LoadFailed: with the host's own reason, or how it ended without one.
        """
        while True:
            message = await self._next_message()
            match message:
                case Loading() if self._pid is None:
                    # The first word, from before any code of the model's ran; whom we signal later is never told anew.
                    self._pid = message.pid
                    if self._memory_bytes_max:
                        self._watching_memory = asyncio.create_task(self._hold_to_memory(message.pid))
                    if self._gives_way:
                        loop = asyncio.get_running_loop()
                        self._coming_back = loop.call_later(scheduling.LONGEST_S, scheduling.come_back, message.pid)
                    changed(SlotState.LOADING)
                case Loading():
                    self.kill(HostForged())
                case Warming():
                    changed(SlotState.WARMING)
                case Ready():
                    self._come_back()
                    self._watching = asyncio.create_task(self._watch())
                    return message.description
                case Failed():
                    failure = LacksSignature if message.lacks_signature else LoadFailed
                    raise self._ended_for or failure(message.reason)
                case Ended():
                    self._exit_status = message.status
                case None:
                    self._ended.set()
                    raise self.why_it_ended

    def _come_back(self) -> None:
        """Give it its full share of the processors, now that somebody waits for what it does."""
        if self._coming_back is not None and self._pid is not None:
            self._coming_back.cancel()
            scheduling.come_back(self._pid)

    @property
    def why_it_ended(self) -> LoadFailed:
        """The reason, for people, once it has ended."""
        return self._ended_for or HostEnded(_how_it_ended(self._exit_status))

    async def ended(self) -> LoadFailed:
        """Wait until it has ended; why."""
        await self._ended.wait()
        return self.why_it_ended

    async def stop(self, timeout_s: float) -> None:
        """Hang up, which tells the host to end; kill it if it hasn't after *timeout_s*, or is still loading."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        if self._watching is None:
            self.kill()
            self._watching = asyncio.create_task(self._watch())
        if self._pid is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ended.wait()
        if not self._ended.is_set():
            self.kill()
        for scheduled in (self._watching, self._watching_memory, self._coming_back):
            if scheduled is not None:
                scheduled.cancel()
        self._writer.close()
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def kill(self, why: HostUnfit | None = None) -> None:
        """End it now, whatever it is doing, and remember *why*."""
        self._ended_for = self._ended_for or why
        # Its line is still open, so it lives and the number is still its own.
        if self._pid is not None and not self._reader.at_eof():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    async def _watch(self) -> None:
        # A host says nothing once it is ready; then its parent says how it ended, and the line closes.
        while (message := await self._next_message()) is not None:
            if isinstance(message, Ended):
                self._exit_status = message.status
            else:
                self.kill(HostForged())
        if self._watching_memory is not None:
            self._watching_memory.cancel()
        self._ended.set()

    async def _next_message(self) -> FromHost | None:
        while True:
            try:
                return await receive(self._reader, _DECODER)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                # The model's code has found the line. It is ended before it says more, and then the line closes.
                self.kill(HostForged())

    async def _hold_to_memory(self, pid: int) -> None:
        held = await host_limits.until_over(pid, self._memory_bytes_max)
        self.kill(HostOverMemory(held, self._memory_bytes_max))


def _how_it_ended(status: int | None) -> str:
    """*status* as `os.waitstatus_to_exitcode` gives it, in words; None if nobody could tell."""
    if status is None:
        return "ended unexpectedly"
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), as the kernel does when memory runs out"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"


class _WarmParent:
    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.process = process
        self.line = line

    def fork(self, fork: Fork, host_line: socket.socket) -> None:
        socket.send_fds(self.line, [msgspec.json.encode(fork)], [host_line.fileno()])


class WarmParents:
    """One process a flavor, started when the flavor is first needed."""

    def __init__(
        self,
        scratch: Path,
        *,
        log_level: str,
        log_format: str,
        environment: Mapping[str, str],
        restraints: Restraints,
    ) -> None:
        self._scratch = scratch
        self._log = (log_level, log_format)
        self._environment = environment
        self._restraints = restraints
        self._gives_way = scheduling.can_come_back()
        self._parents: dict[str, _WarmParent] = {}
        self._starting = asyncio.Lock()
        self._hosts_made = 0

    async def spawn(self, flavor: str, spawn: Spawn) -> HostProcess:
        """A new host of *flavor*, on its way to loading what *spawn* says, with a scratch folder of its own."""
        parent = await self._parent(flavor)
        scratch = self._new_scratch()
        fork = Fork(spawn=spawn, scratch=str(scratch), restraints=self._restraints, gives_way=self._gives_way)
        ours, theirs = socket.socketpair()
        with theirs:
            parent.fork(fork, theirs)
        line = await open_line(ours)
        return HostProcess(
            *line,
            scratch=scratch,
            memory_bytes_max=self._restraints.memory_bytes_max,
            gives_way=self._gives_way,
        )

    def _new_scratch(self) -> Path:
        self._hosts_made += 1
        scratch = self._scratch / f"host-{self._hosts_made}"
        scratch.mkdir(mode=0o700, parents=True)
        return scratch

    async def _parent(self, flavor: str) -> _WarmParent:
        async with self._starting:
            parent = self._parents.get(flavor)
            if parent is None or parent.process.returncode is not None:
                parent = self._parents[flavor] = await self._start(flavor)
            return parent

    async def _start(self, flavor: str) -> _WarmParent:
        # Packets and not a stream: each carries one order and the one descriptor that belongs to it.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.pool.warm_parent",
                flavor,
                str(theirs.fileno()),
                *self._log,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                # What a model prints must not end up in the output of `titlebout serve`.
                stdout=sys.stderr.fileno(),
                env=self._clean_environment(flavor),
            )
        _log.info("warm_parent_started", extra={"flavor": flavor, "pid": process.pid})
        return _WarmParent(process, ours)

    def _clean_environment(self, flavor: str) -> dict[str, str]:
        passed = {
            name: value
            for name, value in self._environment.items()
            if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES)
        }
        told = threads.variables(flavor, self._restraints.threads, self._environment)
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        home = self._scratch / flavor
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        homes = {"HOME": str(home), "TMPDIR": str(home), "MPLCONFIGDIR": str(home)}
        return {**passed, **told, **offline, **homes, "PYTHONUNBUFFERED": "1"}

    async def close(self) -> None:
        """End all of them; their hosts have been stopped before."""
        for parent in self._parents.values():
            parent.line.close()
            # Killed, because one that is still importing its libraries would first finish that, seconds later.
            with contextlib.suppress(ProcessLookupError):
                parent.process.kill()
        for parent in self._parents.values():
            await parent.process.wait()
        self._parents.clear()


@contextlib.asynccontextmanager
async def warm_parents(
    scratch: Path,
    *,
    log_level: str,
    log_format: str,
    environment: Mapping[str, str],
    restraints: Restraints,
) -> AsyncIterator[WarmParents]:
    parents = WarmParents(
        scratch, log_level=log_level, log_format=log_format, environment=environment, restraints=restraints
    )
    try:
        yield parents
    finally:
        await parents.close()
