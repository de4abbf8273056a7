"""A worker's side of its codec."""

import asyncio
import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.columnar.messages import HEAD, Outcome, Task
from gateway.pool import frames
from gateway.settings import Confinement
from loaders.base import Batch
from loaders.errors import BadInput
from loaders.payload import Arrays
from tracking.errors import ErrorCode, Exhausted, ServingError, TooLarge

_log = logging.getLogger(__name__)

_WAITING_MAX = 64
# The rest of a worker's environment is secrets, or means nothing to it.
_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


class PyarrowMissing(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self) -> None:
        super().__init__(
            "Arrow and Parquet need pyarrow, which isn't installed here: install titlebout[arrow], or send JSON or npy."
        )


class CodecBusy(Exhausted):
    def __init__(self) -> None:
        super().__init__(f"{_WAITING_MAX} tables are waiting to be decoded; try again shortly.")


class CodecTimedOut(ServingError):
    code = ErrorCode.DEADLINE_EXCEEDED

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The table was not decoded within {timeout_s:g} s.")


class CodecEnded(BadInput):
    """The body did it: the same process reads others without harm."""

    def __init__(self) -> None:
        super().__init__("The table can't be read: it ended the process that tried to.")


class _Line(msgspec.Struct, frozen=True, eq=False):
    process: "subprocess.Popen[bytes]"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class TableCodec:
    """Tables to arrays and back, by a process that is started when first needed and replaced when it ends.

    It is confined as model hosts are, and reads nothing of *hidden*.
    """

    def __init__(
        self, *, decoded_bytes_max: int, timeout_s: float, confinement: Confinement, hidden: Sequence[Path]
    ) -> None:
        self._arguments = [str(decoded_bytes_max), confinement.value, *map(str, hidden)]
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def read(self, task: Task, body: bytes) -> Arrays:
        """The columns of the table in *body*.

        Raises:
            BadInput: if it is no table, or has columns that no model takes.
            DecodedTooLarge: if it takes more memory than it may.
            PyarrowMissing, CodecBusy, CodecTimedOut: for what is in the way.
        """
        header, content = frames.read_frame(await self._ask(task, [body]))
        if not isinstance(header, frames.AnswerHeader):
            raise frames.BrokenFrame("a codec answers with columns")
        batch = frames.decode_batch(header, content)
        return Arrays(batch.columns, batch.form)

    async def write(self, columns: Batch) -> bytes:
        """An Arrow IPC stream with these *columns*.

        Raises:
            BadInput: for values that no column of Arrow's can hold.
            PyarrowMissing, CodecBusy, CodecTimedOut: for what is in the way.
        """
        return await self._ask(Task.WRITE_STREAM, frames.encode_answer(0, columns))

    def close(self) -> None:
        """End the process, if there is one."""
        line, self._line = self._line, None
        if line is not None:
            line.writer.close()
            line.process.kill()
            line.process.wait()

    async def _ask(self, task: Task, content: Sequence[bytes | memoryview]) -> bytes:
        if importlib.util.find_spec("pyarrow") is None:
            raise PyarrowMissing
        if self._waiting >= _WAITING_MAX:
            raise CodecBusy
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s), self._turn:
                outcome, said = await self._exchange(task, content)
        except TimeoutError:
            raise CodecTimedOut(self._timeout_s) from None
        finally:
            self._waiting -= 1
        match outcome:
            case Outcome.DONE:
                return said
            case Outcome.BAD_INPUT:
                raise BadInput(said.decode())
            case Outcome.TOO_LARGE:
                raise TooLarge(said.decode())

    async def _exchange(self, task: Task, content: Sequence[bytes | memoryview]) -> tuple[Outcome, bytes]:
        line = await self._connected()
        try:
            line.writer.write(HEAD.pack(task.value, sum(len(part) for part in content)))
            for part in content:
                line.writer.write(part)
            letter, length = HEAD.unpack(await line.reader.readexactly(HEAD.size))
            return Outcome(letter), await line.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            _log.warning("codec_ended", extra={"pid": line.process.pid, "status": line.process.returncode})
            raise CodecEnded from error
        except BaseException:
            # Nobody will read this answer, and the next one must not be taken for it.
            self.close()
            raise

    async def _connected(self) -> _Line:
        if self._line is None:
            process, line = _start(self._arguments)
            try:
                reader, writer = await asyncio.open_connection(sock=line)
            except BaseException:
                # Whoever asked has given up meanwhile.
                process.kill()
                process.wait()
                raise
            self._line = _Line(process, reader, writer)
        return self._line


def _start(arguments: Sequence[str]) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """A codec, and our end of the line to it."""
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-m", "gateway.columnar.codec_process", str(its.fileno()), *arguments]
        process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, env=_environment())
    return process, ours


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # The system's allocator takes what is asked for; the others take gigabytes of addresses in advance.
    return {**inherited, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
