"""Bodies by their media types, for the protocols that leave the type to the caller: inputs read, answers written."""

from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec
import numpy as np

from gateway.api.scoring.json_answers import plain
from gateway.api.scoring.media_types import MediaType
from gateway.api.scoring.walk import Reply
from gateway.columnar.codec import TableCodec
from gateway.columnar.messages import Task
from gateway.scoring.inference import ReadInput
from loaders.base import Answer, Batch, Form, JsonAnswer
from loaders.errors import BadInput
from loaders.npy import read_npy, write_npy
from loaders.payload import DATA_KEYS, Data, read_csv, read_document
from tracking.errors import BadRequest

# numpy writes each text as long as the longest.
_NPY_TEXT_BYTES_MAX = 64 * 1024**2

Input = tuple[Data, Mapping[str, Any] | None]


class Bodies:
    """Reads inputs that take up to *decoded_bytes_max* in memory, and writes answers; tables by the *codec*."""

    def __init__(self, codec: TableCodec, decoded_bytes_max: int) -> None:
        self._codec = codec
        self._decoded_bytes_max = decoded_bytes_max

    def reader(
        self, kind: MediaType, options: Mapping[str, str], body: bytes
    ) -> ReadInput | Coroutine[Any, Any, ReadInput]:
        """What decodes *body*, which is of *kind*, once it is wanted."""
        match kind:
            case MediaType.JSON:
                return lambda: decode_json(body)
            case MediaType.CSV:
                header = options.get("header", "present") != "absent"
                return lambda: (_decode_csv(body, header=header), None)
            case MediaType.NPY:
                return lambda: (read_npy(body, self._decoded_bytes_max), None)
            case MediaType.ARROW:
                return self._read_table(Task.READ_STREAM, body)
            case MediaType.PARQUET:
                return self._read_table(Task.READ_PARQUET, body)

    def write(self, kind: MediaType, answer: Answer) -> Reply | Coroutine[Any, Any, Reply]:
        """*answer* as a body of *kind*, one of those that `accepted` gives.

        Raises:
            BadInput: if it has no such form.
        """
        match kind:
            case MediaType.NPY:
                return _in_npy(answer)
            case MediaType.ARROW:
                return self._write_table(answer)
            case _:
                return Reply(encode_predictions(answer))

    async def _read_table(self, task: Task, body: bytes) -> ReadInput:
        arrays = await self._codec.read(task, body)
        return lambda: (arrays, None)

    async def _write_table(self, answer: Answer) -> Reply:
        columns = {name or "predictions": values for name, values in _columns(answer).items()}
        return Reply(await self._codec.write(Batch(Form.TABLE, columns)), MediaType.ARROW.preferred)


# --- what comes in


def decode_json(body: bytes, keys: tuple[str, ...] = DATA_KEYS) -> Input:
    """The data and the params of a JSON body.

    Raises:
        BadRequest: if it is no JSON, or nested deeper than any input is.
        BadInput: if it hasn't exactly one of *keys*, in its form.
    """
    return read_document(parse_json(body), keys)


def parse_json(body: bytes) -> Any:
    """The JSON value in *body*.

    Raises:
        BadRequest: if there is none, or it is nested deeper than any input is.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply to be an input.") from error


def _decode_csv(body: bytes, *, header: bool) -> Data:
    try:
        return read_csv(body.decode("utf-8"), header=header)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not valid UTF-8 at byte {error.start}.") from error


# --- what goes out


def encode_predictions(answer: Answer) -> bytes:
    """MLflow's body of an answer."""
    if isinstance(answer, JsonAnswer):
        return b'{"predictions":' + answer.text + b"}"
    return msgspec.json.encode({"predictions": plain(answer)})


def _in_npy(answer: Answer) -> Reply:
    columns = _columns(answer)
    if len(columns) > 1:
        raise BadInput("The answer has several columns, and npy holds one array; ask for Arrow or JSON.")
    [values] = columns.values()
    return Reply(write_npy(_as_text(values) if values.dtype.kind == "O" else values), MediaType.NPY.preferred)


def _columns(answer: Answer) -> Mapping[str, np.ndarray]:
    if isinstance(answer, JsonAnswer):
        raise BadInput("The answer is a JSON value that has no columns; ask for JSON.")
    return answer.columns


def _as_text(values: np.ndarray) -> np.ndarray:
    """Text as numpy itself holds it, without Python's objects."""
    if not all(isinstance(value, str) for value in values.flat):
        raise BadInput("The answer holds values that npy can't without pickling; ask for Arrow or JSON.")
    if values.size * max(map(len, values.flat), default=0) * 4 > _NPY_TEXT_BYTES_MAX:
        raise BadInput("The answer holds text that is too long for npy; ask for Arrow or JSON.")
    return values.astype(np.str_)
