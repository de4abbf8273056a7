"""The supervisor's side of model hosts: warm parents to fork from, and a handle on each host."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from gateway.pool.messages import Failed, FromHost, Loading, ModelDescription, Ready, Spawn, Warming, open_line, receive
from gateway.pool.version_policy import SlotState
from tracking.errors import ErrorCode, ServingError

_log = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(FromHost)

# All that a host gets of our environment: where programs and libraries are, and how many threads numbers may take.
# No credentials, no database URL.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")
_PASSED_PREFIXES = ("OMP_", "OPENBLAS_", "MKL_", "TORCH_")


class LoadFailed(ServingError):
    """A version that can't be loaded, with the reason for people."""

    code = ErrorCode.INVALID_STATE


class HostEnded(LoadFailed):
    def __init__(self) -> None:
        super().__init__("The model's process ended while it was loading; the log has its last words.")


class HostProcess:
    """One host: what it says of itself, when it ends, and how to end it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._pid: int | None = None
        self._ended = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._pid

    async def until_ready(self, changed: Callable[[SlotState], None]) -> ModelDescription:
        """Follow the load; *changed* hears of each state on the way.

        Raises:
            LoadFailed: with the host's own reason, or that it ended without one.
        """
        while True:
            message = await receive(self._reader, _DECODER)
            match message:
                case Loading():
                    self._pid = message.pid
                    changed(SlotState.LOADING)
                case Warming():
                    changed(SlotState.WARMING)
                case Ready():
                    self._watching = asyncio.create_task(self._watch())
                    return message.description
                case Failed():
                    raise LoadFailed(message.reason)
                case None:
                    raise HostEnded

    async def _watch(self) -> None:
        # A host says nothing once it is ready, so the next thing to come is the end.
        await receive(self._reader, _DECODER)
        self._ended.set()

    async def ended(self) -> None:
        await self._ended.wait()

    async def stop(self, timeout_s: float) -> None:
        """Hang up, which tells the host to end; kill it if it hasn't after *timeout_s*."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        if self._watching is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ended.wait()
        if not self._ended.is_set():
            self.kill()
        if self._watching is not None:
            self._watching.cancel()
        self._writer.close()

    def kill(self) -> None:
        """End it now, whatever it is doing."""
        # Its line is still open, so it lives and the number is still its own.
        if self._pid is not None and not self._reader.at_eof():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


class _WarmParent:
    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.process = process
        self.line = line

    def fork(self, spawn: Spawn, host_line: socket.socket) -> None:
        socket.send_fds(self.line, [msgspec.json.encode(spawn)], [host_line.fileno()])


class WarmParents:
    """One process a flavor, started when the flavor is first needed."""

    def __init__(self, scratch: Path, *, log_level: str, log_format: str, environment: Mapping[str, str]) -> None:
        self._scratch = scratch
        self._log = (log_level, log_format)
        self._environment = environment
        self._parents: dict[str, _WarmParent] = {}
        self._starting = asyncio.Lock()

    async def spawn(self, flavor: str, spawn: Spawn) -> HostProcess:
        """A new host of *flavor*, on its way to loading what *spawn* says."""
        parent = await self._parent(flavor)
        ours, theirs = socket.socketpair()
        with theirs:
            parent.fork(spawn, theirs)
        return HostProcess(*await open_line(ours))

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
                env=self._clean_environment(),
            )
        _log.info("warm_parent_started", extra={"flavor": flavor, "pid": process.pid})
        return _WarmParent(process, ours)

    def _clean_environment(self) -> dict[str, str]:
        passed = {
            name: value
            for name, value in self._environment.items()
            if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES)
        }
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        home = {"HOME": str(self._scratch), "TMPDIR": str(self._scratch), "MPLCONFIGDIR": str(self._scratch)}
        return {**passed, **offline, **home, "PYTHONUNBUFFERED": "1"}

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
    scratch: Path, *, log_level: str, log_format: str, environment: Mapping[str, str]
) -> AsyncIterator[WarmParents]:
    parents = WarmParents(scratch, log_level=log_level, log_format=log_format, environment=environment)
    try:
        yield parents
    finally:
        await parents.close()
