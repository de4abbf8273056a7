"""The id of a prediction: all that feedback has to be joined to, signed, so that no table grows with the traffic.

Whoever gives feedback brings the id back, days later perhaps. It says which version of which arm answered, in which
period, in which bucket and when, and what it answered if that was one class or one number; the caller can read it and
can't change it. docs/feedback.md has the fields. It is always under 120 characters.
"""

import binascii
import hmac
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b, sha256
from struct import Struct

import msgspec

from gateway.comparison.single_predictions import Value
from registry.entities import NO_PERIOD, PredictionKey
from tracking.errors import InvalidParameter

LENGTH_MAX = 119
NONCE_BYTES = 12
"""A part of the process's own, which is drawn once, and a count."""
NONCE_PREFIX_BYTES = 4

_FORMAT = 1
_MAC_BYTES = 16
_TEXT_BYTES_MAX = 19
"""Of a class that is carried as it is. With them an id has 89 bytes, which are 119 characters."""
_HASH_BYTES = 16
_NO_BUCKET = 0xFFFF

# Who answered, which is the same for all answers of one arm in one epoch: format, key, endpoint, period, arm, version
# and the process's part of the nonce.
_HEAD = Struct(">B4s16sI4sI4s")
# And what differs: the count of the nonce, milliseconds and bucket in one number, and what was predicted.
_TAIL = Struct(">QQB")
_WITH_INTEGER = Struct(">QQBq")
_WITH_NUMBER = Struct(">QQBd")
_INTEGER, _NUMBER = Struct(">q"), Struct(">d")
_NOTHING, _FALSE, _TRUE, _OF_INTEGER, _OF_NUMBER, _OF_TEXT, _OF_LONG_TEXT = range(7)
_FIXED_BYTES = _HEAD.size + _TAIL.size + _MAC_BYTES
_INTEGER_MAX, _INTEGER_MIN = 2**63 - 1, -(2**63)

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class ForgedId(InvalidParameter):
    """Also for one that was cut off on its way."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This prediction id was not made here: {reason}.")


class Answered(msgspec.Struct, frozen=True):
    """Who answered, as far as it is the same for many answers."""

    endpoint_id: str
    """32 hexadecimal digits."""
    period: int
    arm: str
    version: int


class LongClass(msgspec.Struct, frozen=True):
    """A class that was too long to be carried: enough to tell whether a label is the same."""

    digest: bytes


MakeId = Callable[[int | None, Value | None], bytes]
"""Makes an answer's id: of its bucket, if the split chose who gives it, and of what it says, if that is one value."""


class PredictionId(msgspec.Struct, frozen=True):
    """What an id says, once it is known to be ours."""

    key_id: str
    endpoint_id: str
    period: int
    arm_tag: bytes
    """A name may be long, and the id may not; `by_tag` has it back."""
    version: int
    nonce: bytes
    at_ms: int
    bucket: int | None
    """Of the unit; None where the split didn't choose who answers, so that no comparison counts it."""
    prediction: Value | LongClass | None
    """None if it was more than one value, or none that has a label."""


def id_maker(
    key: PredictionKey,
    answered: Answered,
    *,
    nonce_prefix: bytes,
    counted: Iterator[int],
    clock_ns: Callable[[], int],
) -> MakeId:
    """What makes the ids of what one version answers for one arm in one period.

    *counted* is the process's own count, with *nonce_prefix* in front; *clock_ns* is of nanoseconds since the epoch.

    It is one function with all that it needs at hand. Between two of a worker's requests the processor's caches are
    filled with other things, and then each object that has to be looked up costs as much as a step of the work: by
    methods of objects it took twice as long.
    """
    head = _HEAD.pack(
        _FORMAT,
        bytes.fromhex(key.id),
        bytes.fromhex(answered.endpoint_id),
        answered.period,
        tag_of(answered.arm),
        answered.version,
        nonce_prefix,
    )
    # What is signed and written first is the same each time, so the work on it is done once.
    signing = _signing(key)
    signing.update(head)
    # Three bytes are four characters.
    whole = len(head) // 3 * 3
    begin, rest = _to_text(head[:whole]), head[whole:]
    # Nothing is compared while the split isn't whole, and so such an answer has no bucket.
    has_bucket = answered.period != NO_PERIOD
    start_mac, with_integer, encode, to_url = signing.copy, _WITH_INTEGER.pack, binascii.b2a_base64, _TO_URL

    def make(bucket: int | None, prediction: Value | None) -> bytes:
        when = clock_ns() // 1_000_000 << 16 | (bucket if has_bucket and bucket is not None else _NO_BUCKET)
        if type(prediction) is int and _INTEGER_MIN <= prediction <= _INTEGER_MAX:
            signed = with_integer(next(counted), when, _OF_INTEGER, prediction)
        else:
            signed = _tail(next(counted), when, prediction)
        mac = start_mac()
        mac.update(signed)
        return begin + encode(rest + signed + mac.digest(), newline=False).translate(to_url).rstrip(b"=")

    return make


def read_id(text: str, keys: Mapping[str, PredictionKey]) -> PredictionId:
    """What the id *text* says, if one of *keys*, by their ids, has signed it.

    Raises:
        ForgedId: if none has, or it is no id at all.
    """
    content = _decode(text)
    head, signed, mac = content[: _HEAD.size], content[_HEAD.size : -_MAC_BYTES], content[-_MAC_BYTES:]
    version_of_format, key_id, endpoint_id, period, arm_tag, version, nonce_prefix = _HEAD.unpack(head)
    if version_of_format != _FORMAT:
        raise ForgedId("it is of no format that is known")
    key = keys.get(key_id.hex())
    if key is None:
        raise ForgedId("the key that it names isn't one of ours, or was given up long ago")
    expected = _signing(key)
    expected.update(content[:-_MAC_BYTES])
    if not hmac.compare_digest(expected.digest(), mac):
        raise ForgedId("its signature doesn't fit what it says")
    count, when, kind = _TAIL.unpack_from(signed)
    bucket = when & _NO_BUCKET
    return PredictionId(
        key_id=key.id,
        endpoint_id=endpoint_id.hex(),
        period=period,
        arm_tag=arm_tag,
        version=version,
        nonce=nonce_prefix + count.to_bytes(NONCE_BYTES - NONCE_PREFIX_BYTES, "big"),
        at_ms=when >> 16,
        bucket=None if bucket == _NO_BUCKET else bucket,
        prediction=_prediction(kind, signed[_TAIL.size :]),
    )


def tag_of(arm: str) -> bytes:
    """What an id has of an arm's name."""
    return sha256(arm.encode("utf-8", "surrogatepass")).digest()[:4]


def by_tag(arms: Iterable[str]) -> dict[bytes, str]:
    """*arms* by what an id has of their names."""
    return {tag_of(arm): arm for arm in arms}


def long_class(text: str) -> LongClass:
    """What an id has of a class that is too long for it."""
    return LongClass(sha256(_bytes_of(text)).digest()[:_HASH_BYTES])


def can_be_carried(value: Value) -> bool:
    """Whether an id has a place for *value*: not for numbers that nothing can be compared with, or of over 64 bits."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) or _INTEGER_MIN <= value <= _INTEGER_MAX


def _signing(key: PredictionKey) -> "blake2b":
    return blake2b(key=key.secret, digest_size=_MAC_BYTES, person=b"prediction id")


def _decode(text: str) -> bytes:
    if len(text) > LENGTH_MAX or not text.isascii():
        raise ForgedId(f"it has more than {LENGTH_MAX} characters, or others than it can have")
    encoded = text.encode()
    try:
        content = binascii.a2b_base64(encoded.translate(_FROM_URL) + b"=" * (-len(encoded) % 4))
    except binascii.Error:
        content = b""
    if len(content) < _FIXED_BYTES:
        raise ForgedId("it is cut off")
    # Bits that nobody looks at, and characters that are passed over, would be other ids for the same prediction.
    if _to_text(content) != encoded:
        raise ForgedId("it isn't written as ids are")
    return content


def _to_text(content: bytes) -> bytes:
    return binascii.b2a_base64(content, newline=False).translate(_TO_URL).rstrip(b"=")


def _tail(count: int, when: int, prediction: Value | None) -> bytes:
    if prediction is None or not can_be_carried(prediction):
        return _TAIL.pack(count, when, _NOTHING)
    if isinstance(prediction, str):
        text = _bytes_of(prediction)
        if len(text) <= _TEXT_BYTES_MAX:
            return _TAIL.pack(count, when, _OF_TEXT) + text
        return _TAIL.pack(count, when, _OF_LONG_TEXT) + long_class(prediction).digest
    if isinstance(prediction, float):
        return _WITH_NUMBER.pack(count, when, _OF_NUMBER, prediction)
    if isinstance(prediction, bool):
        return _TAIL.pack(count, when, _TRUE if prediction else _FALSE)
    return _WITH_INTEGER.pack(count, when, _OF_INTEGER, prediction)


def _prediction(kind: int, content: bytes) -> Value | LongClass | None:
    if kind == _NOTHING:
        return None
    if kind == _OF_TEXT:
        return content.decode("utf-8", "surrogatepass")
    if kind == _OF_LONG_TEXT:
        return LongClass(content)
    if kind in {_FALSE, _TRUE}:
        return kind == _TRUE
    value: Value = (_INTEGER if kind == _OF_INTEGER else _NUMBER).unpack(content)[0]
    return value


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
