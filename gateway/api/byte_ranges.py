"""The Range header, as far as one range of bytes goes (RFC 9110, section 14)."""

import re

import msgspec

_ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII | re.IGNORECASE)


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes from *start* up to, and without, *stop*."""

    start: int
    stop: int


class RangeNotSatisfiable(Exception):
    """A range that lies beyond the end."""


def read_range(header: str | None, size: int) -> ByteRange | None:
    """The part of *size* bytes that *header* asks for; None means all of them.

    What isn't one range of bytes is answered with all of them, as the RFC allows.

    Raises:
        RangeNotSatisfiable: if there is no such part.
    """
    match = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0].endswith("=-"):
        return None
    first, last = match[1], match[2]
    if not first:
        # The last so many bytes.
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise RangeNotSatisfiable
    return ByteRange(start, stop)
