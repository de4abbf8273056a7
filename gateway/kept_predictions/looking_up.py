"""What the prediction log has of single rows, read by a process of its own, which has pyarrow and ends.

Here is what is said to `gateway.prediction_reader` and by it, as JSON; numbers that aren't finite are null in that.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

import msgspec

from gateway.comparison.single_predictions import Value
from tracking.errors import ErrorCode, ServingError

_TIMEOUT_S = 300.0


class ReaderFailed(ServingError):
    """The process that reads Parquet did not; the end of what it said."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, said: str) -> None:
        super().__init__(f"Kept predictions couldn't be read: {said[-500:].strip() or 'the reader was ended'}")


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A row that is looked for."""

    prediction_id: str
    row: int | None
    """None for the only one."""


class Question(msgspec.Struct, frozen=True):
    files: Sequence[str]
    since_ms: int
    until_ms: int
    """Between which all were predicted that are looked for."""
    asked: Sequence[Asked]


class Predicted(msgspec.Struct, frozen=True):
    """A row whose answer was found."""

    asked: Asked
    rows: int
    """How many the answer had; 1 where it is kept whole."""
    value: Value | None = None
    """If it was one class or one number."""
    numbers: Sequence[float | None] | None = None
    """If it was several."""

    @property
    def is_there(self) -> bool:
        """Whether the answer had such a row."""
        return self.rows == 1 if self.asked.row is None else self.asked.row < self.rows


class Found(msgspec.Struct, frozen=True):
    predicted: Sequence[Predicted]
    unreadable: Sequence[str]
    """Which of the files aren't what they should be."""


async def look_up(question: Question) -> Found:
    """What the files have of what is asked.

    Raises:
        ReaderFailed: if the process didn't do its work.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.prediction_reader",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            answer, said = await process.communicate(msgspec.json.encode(question))
    except TimeoutError:
        raise ReaderFailed(f"it took over {_TIMEOUT_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode:
        raise ReaderFailed(said.decode(errors="replace"))
    return msgspec.json.decode(answer, type=Found)
