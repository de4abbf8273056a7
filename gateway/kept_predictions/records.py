"""One kept prediction on its way from the worker that answered to the file that keeps it, and back out of a spool.

A spool is records one after the other, each with its length before it. What a process that was killed has written of
its last one is passed over.
"""

from collections.abc import Iterator
from struct import Struct

import msgspec

from gateway.pool import frames
from loaders.base import Answer, DoubleRow, JsonAnswer, Rows, joined_rows

_LENGTH = Struct("<I")


class KeptPrediction(msgspec.Struct, frozen=True, array_like=True):
    """What one request was answered, and by whom."""

    prediction_id: str
    at_ms: int
    endpoint_id: str
    endpoint: str
    model: str
    version: int
    arm: str
    """Empty when a version was asked for by number."""
    period: int
    bucket: int | None
    """Of the unit; None where the split didn't choose who answers."""
    rows: int
    """How many it was asked for."""
    answer: bytes
    """As a frame of a model host."""
    input: bytes | None = None
    """The rows as the model got them, likewise."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeptPrediction).decode


def to_record(kept: KeptPrediction) -> bytes:
    content = _encode(kept)
    return _LENGTH.pack(len(content)) + content


def read_records(spool: bytes) -> Iterator[KeptPrediction]:
    """All that are whole."""
    view, begin = memoryview(spool), 0
    while begin + _LENGTH.size <= len(view):
        [length] = _LENGTH.unpack_from(view, begin)
        begin += _LENGTH.size
        if begin + length > len(view):
            return
        yield _decode(view[begin : begin + length])
        begin += length


def pack(values: Answer | Rows) -> bytes:
    """An answer, or the rows that were asked about, as bytes of their own."""
    answer = joined_rows([values]) if isinstance(values, DoubleRow) else values
    return b"".join(frames.encode_answer(0, answer))


def unpack(packed: bytes) -> Answer:
    """What was packed.

    Raises:
        BrokenFrame: if it is anything else.
    """
    header, body = frames.read_frame(packed)
    match header:
        case frames.JsonHeader():
            return JsonAnswer(bytes(body))
        case frames.AnswerHeader():
            return frames.decode_batch(header, body)
        case _:
            raise frames.BrokenFrame("only answers are kept")
