"""Messages between a worker and a model host: a bounded, typed header and raw arrays. Never a pickle.

A frame is ``TBF1``, the header's length (uint32), the body's length (uint64), both little-endian, the header in
MessagePack, the body. The body is the columns' buffers one after the other: numbers, booleans and times as numpy
holds them, strings and bytes with their missing entries as a MessagePack list. Whatever doesn't add up is a
`BrokenFrame`, and the connection that sent it is closed.
"""

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import msgspec
import numpy as np

from loaders.base import Answer, Batch, Columns, Form, JsonAnswer

_PREFIX = struct.Struct("<4sIQ")
PREFIX_BYTES = _PREFIX.size
_MAGIC = b"TBF1"
_HEADER_BYTES_MAX = 4 * 1024**2
# What may cross as raw bytes: booleans, integers, floats, times. Anything else is `object` and goes as a list.
_RAW_KINDS = frozenset("biufMm")
_RAW_DTYPE = re.compile(r"[<>|=][biuf]\d{1,2}|[<>][Mm]8(\[\d{0,9}[a-zA-Z]{1,7}\])?")
# What people read of a failure. A model may put anything into its exceptions, a whole payload too.
_MESSAGE_CHARACTERS_MAX = 4_000
_OBJECT = "O"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BrokenFrame(ValueError):
    """Bytes that aren't a frame, or a frame over its bound: the sender is wrong or hostile."""


class FrameTooLarge(ValueError):
    """A frame that its receiver would refuse, seen before it is sent: a refusal would cost the whole connection."""


class _Column(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class PredictHeader(msgspec.Struct, tag="predict", array_like=True):
    id: int
    form: Form
    columns: list[_Column]
    params: dict[str, Any]
    deadline_s: float | None = None
    """By `time.monotonic`, which all processes of a machine share: from then on nobody waits for an answer."""
    names: tuple[str, ...] | None = None
    """Where all columns are of one type and of plain values: what they are called. They then are one array (columns,
    rows), which costs as much to send as a single column."""


class AnswerHeader(msgspec.Struct, tag="answer", array_like=True):
    id: int
    form: Form
    columns: list[_Column]


class JsonHeader(msgspec.Struct, tag="json", array_like=True):
    id: int


class FailureHeader(msgspec.Struct, tag="failure", array_like=True):
    id: int
    callers_fault: bool
    """Whether the input was unusable (the caller reads the message) or the model's code failed (only the log does)."""
    message: str


class ExpiredHeader(msgspec.Struct, tag="expired", array_like=True):
    """The deadline had passed when the request was read, so the model wasn't asked."""

    id: int


Header = PredictHeader | AnswerHeader | JsonHeader | FailureHeader | ExpiredHeader

_encode_header = msgspec.msgpack.Encoder().encode
_header_decoder: msgspec.msgpack.Decoder[Header] = msgspec.msgpack.Decoder(Header)
_encode_objects = msgspec.msgpack.Encoder().encode
_decode_objects = msgspec.msgpack.Decoder(list[Any]).decode


def encode_predict(
    request_id: int, batch: Batch, params: dict[str, Any], deadline_s: float | None = None
) -> list[bytes | memoryview]:
    matrix = _find_matrix(batch.columns)
    columns, buffers = _pack(batch.columns if matrix is None else {"": matrix})
    names = None if matrix is None else tuple(batch.columns)
    return _frame(PredictHeader(request_id, batch.form, columns, params, deadline_s, names), buffers)


def encode_answer(request_id: int, answer: Answer) -> list[bytes | memoryview]:
    if isinstance(answer, JsonAnswer):
        return _frame(JsonHeader(request_id), [answer.text])
    columns, buffers = _pack(answer.columns)
    return _frame(AnswerHeader(request_id, answer.form, columns), buffers)


def encode_failure(request_id: int, message: str, *, callers_fault: bool) -> list[bytes | memoryview]:
    # Half a surrogate pair, as in an undecodable file name, can't be encoded and must not stop the sentence.
    sayable = message[:_MESSAGE_CHARACTERS_MAX].encode(errors="replace").decode()
    return _frame(FailureHeader(request_id, callers_fault, sayable), [])


def encode_expired(request_id: int) -> list[bytes | memoryview]:
    return _frame(ExpiredHeader(request_id), [])


def check_bounds(frame: Sequence[bytes | memoryview], body_bytes_max: int) -> None:
    """Raise `FrameTooLarge` unless whoever receives *frame* would take it."""
    body_bytes = sum(len(buffer) for buffer in frame[1:])
    if body_bytes > body_bytes_max:
        raise FrameTooLarge(f"{body_bytes} bytes, where {body_bytes_max} are the most (TITLEBOUT_FRAME_BYTES_MAX)")
    header_bytes = len(frame[0]) - PREFIX_BYTES
    if header_bytes > _HEADER_BYTES_MAX:
        raise FrameTooLarge(f"{header_bytes} bytes of names and params, where {_HEADER_BYTES_MAX} are the most")


def frame_lengths(prefix: bytes | bytearray | memoryview, body_bytes_max: int) -> tuple[int, int]:
    """(header bytes, body bytes) that follow *prefix*.

    Raises:
        BrokenFrame: if it is no prefix of ours, or announces more than *body_bytes_max*.
    """
    magic, header_bytes, body_bytes = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise BrokenFrame("not a frame")
    if header_bytes > _HEADER_BYTES_MAX or body_bytes > body_bytes_max:
        raise BrokenFrame(f"a frame of {header_bytes} + {body_bytes} bytes is over the bound")
    return header_bytes, body_bytes


class FrameReader:
    """Makes frames of bytes as they come, wherever the kernel cut them."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._held = bytearray()
        # Another look is worth it only once there are as many.
        self._wanted = PREFIX_BYTES

    def feed(self, data: bytes) -> list[tuple[Header, memoryview]]:
        """The frames that *data* completes; a body can be written to only if it came in pieces.

        Raises:
            BrokenFrame: if what came is no frame, or announces more than the bound.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return []
            view, self._held = memoryview(self._held), bytearray()
        else:
            view = memoryview(data)
        complete: list[tuple[Header, memoryview]] = []
        while len(view) >= PREFIX_BYTES:
            header_bytes, body_bytes = frame_lengths(view[:PREFIX_BYTES], self._body_bytes_max)
            body_at = PREFIX_BYTES + header_bytes
            end = body_at + body_bytes
            if len(view) < end:
                self._wanted = end
                break
            complete.append((decode_header(view[PREFIX_BYTES:body_at]), view[body_at:end]))
            view = view[end:]
        else:
            self._wanted = PREFIX_BYTES
        self._held += view
        return complete


def read_frame(data: bytes) -> tuple[Header, memoryview]:
    """The header and the body of a frame that came whole, and whose length was bounded by whoever received it.

    Raises:
        BrokenFrame: if it is none.
    """
    view = memoryview(data)
    header_bytes, body_bytes = frame_lengths(view[:PREFIX_BYTES], len(view))
    begin = PREFIX_BYTES + header_bytes
    if len(view) != begin + body_bytes:
        raise BrokenFrame("a frame isn't as long as it says")
    return decode_header(view[PREFIX_BYTES:begin]), view[begin:]


def decode_header(data: bytes | bytearray | memoryview) -> Header:
    try:
        return _header_decoder.decode(data)
    except _UNREADABLE as error:
        raise BrokenFrame("the header can't be read") from error


def decode_batch(header: PredictHeader | AnswerHeader, body: bytearray | memoryview) -> Batch:
    """The arrays of a frame. They share memory with *body*, which must be writable: some estimators want that."""
    view = memoryview(body)
    columns: Columns = {}
    offset = 0
    for column in header.columns:
        columns[column.name] = _unpack(column, view[offset : offset + column.nbytes])
        offset += column.nbytes
    if offset != len(view) or len(columns) != len(header.columns):
        raise BrokenFrame("the columns don't add up to the body")
    if isinstance(header, PredictHeader) and header.names is not None:
        columns = _named(header.names, columns)
    return Batch(header.form, columns)


def _find_matrix(columns: Columns) -> np.ndarray | None:
    """All *columns* as one array (columns, rows), if that is what they are."""
    arrays = list(columns.values())
    if len(arrays) < 2:
        return None
    dtype, rows = arrays[0].dtype, len(arrays[0])
    if dtype.kind not in _RAW_KINDS or any(one.ndim != 1 or one.dtype != dtype or len(one) != rows for one in arrays):
        return None
    return np.concatenate(arrays).reshape(len(arrays), rows)


def _named(names: tuple[str, ...], columns: Columns) -> Columns:
    matrix = columns.get("")
    if matrix is None or len(columns) != 1 or matrix.ndim != 2 or not len(matrix) == len(names) == len(set(names)):
        raise BrokenFrame("the names don't add up to the columns")
    return dict(zip(names, matrix, strict=True))


def _pack(columns: Columns) -> tuple[list[_Column], list[bytes | memoryview]]:
    described: list[_Column] = []
    buffers: list[bytes | memoryview] = []
    for name, given in columns.items():
        # No other end can be relied on to know long doubles.
        values = given.astype(np.float64) if given.dtype.kind == "f" and given.dtype.itemsize > 8 else given
        if values.dtype.kind in _RAW_KINDS:
            array = np.ascontiguousarray(values)
            # A view as bytes, because times and booleans don't offer their buffer as themselves.
            data: bytes | memoryview = array.reshape(-1).view(np.uint8).data if array.size else b""
            dtype = array.dtype.str
        else:
            data, dtype = _encode_objects(values.astype(object).reshape(-1).tolist()), _OBJECT
        described.append(_Column(name, dtype, values.shape, len(data)))
        buffers.append(data)
    return described, buffers


def _unpack(column: _Column, data: memoryview) -> np.ndarray:
    if any(side < 0 for side in column.shape):
        raise BrokenFrame(f"column {column.name!r} has a negative side")
    size = prod(column.shape)
    if column.dtype == _OBJECT:
        return _shaped(column, _unpack_objects(column, data, size))
    dtype = _known_dtype(column.dtype)
    if dtype is None:
        raise BrokenFrame(f"column {column.name!r} has no known type")
    if dtype.itemsize * size != len(data) or dtype.itemsize * size != column.nbytes:
        raise BrokenFrame(f"column {column.name!r} isn't as long as its shape says")
    return _shaped(column, np.frombuffer(data, dtype=dtype, count=size))


@lru_cache(maxsize=256)
def _known_dtype(text: str) -> np.dtype | None:
    """The type that numpy writes as *text*, if it may cross as raw bytes.

    Looked at first, because numpy reads a small language, and not every sentence of it ends well.
    """
    if not _RAW_DTYPE.fullmatch(text):
        return None
    try:
        return np.dtype(text)
    except (TypeError, ValueError):
        return None


def _shaped(column: _Column, array: np.ndarray) -> np.ndarray:
    try:
        return array.reshape(column.shape)
    except (ValueError, OverflowError) as error:
        raise BrokenFrame(f"column {column.name!r} has a shape that no array has") from error


def _unpack_objects(column: _Column, data: memoryview, size: int) -> np.ndarray:
    try:
        values = _decode_objects(data)
    except _UNREADABLE as error:
        raise BrokenFrame(f"column {column.name!r} can't be read") from error
    if len(values) != size or len(data) != column.nbytes:
        raise BrokenFrame(f"column {column.name!r} isn't as long as its shape says")
    array = np.empty(size, dtype=object)
    for place, value in enumerate(values):
        # One by one, since numpy would make an axis of lists within.
        array[place] = value
    return array


def _frame(header: Header, buffers: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    encoded = _encode_header(header)
    body_bytes = sum(len(buffer) for buffer in buffers)
    return [_PREFIX.pack(_MAGIC, len(encoded), body_bytes) + encoded, *buffers]
