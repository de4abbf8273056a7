"""What a worker and its codec say to each other: a letter, a length, and as many bytes."""

import struct
from enum import Enum

HEAD = struct.Struct("<cQ")


class Task(Enum):
    """What is to be done with the bytes that follow."""

    READ_STREAM = b"s"
    READ_PARQUET = b"p"
    WRITE_STREAM = b"w"
    """They are a frame of columns."""


class Outcome(Enum):
    DONE = b"d"
    """The bytes that follow are a frame of columns, or the stream that was to be written."""
    BAD_INPUT = b"b"
    """The bytes that follow say what is wrong."""
    TOO_LARGE = b"t"
