"""Numbers and closed sets as protobuf's JSON has them: int64 as text, NaN as a word, enums by name or number."""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from tracking.errors import InvalidParameter

_WORDS: Mapping[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# JSON's own form; Python's `float` reads more, as "1_0" and "nan".
_DOUBLE = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

Choice = TypeVar("Choice", bound=StrEnum)


def int64(value: int | str, field: str) -> int:
    """A number that came as one, or as digits.

    Raises:
        InvalidParameter: if it is none, or has more than 64 bits.
    """
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
            raise _invalid(value, field, "a number of 64 bits")
        value = int(value)
    if not -(2**63) <= value < 2**63:
        raise _invalid(value, field, "a number of 64 bits")
    return value


def double(value: float | str, field: str) -> float:
    """A number that came as one, as NaN or infinity in words, or as its digits.

    Raises:
        InvalidParameter: if it is none of these, or more than a double holds.
    """
    if not isinstance(value, str):
        return value
    if value in _WORDS:
        return _WORDS[value]
    read = float(value) if _DOUBLE.fullmatch(value) else math.inf
    if math.isinf(read):
        raise _invalid(value, field, "a number of 64 bits, or NaN, Infinity or -Infinity")
    return read


def double_on_wire(value: float) -> float | str:
    """JSON has no NaN; protobuf's way of writing it is a word."""
    return "NaN" if math.isnan(value) else value


def choice(value: str | int, field: str, known: Mapping[int, Choice]) -> Choice:
    """The member that *value* names, or numbers as the protocol does.

    Raises:
        InvalidParameter: if there is none.
    """
    for number, member in known.items():
        if value in {number, str(number), member.value}:
            return member
    raise _invalid(value, field, f"one of {', '.join(known.values())}")


def _invalid(value: object, field: str, expected: str) -> InvalidParameter:
    return InvalidParameter(
        f"Invalid value {str(value)[:100]!r} for parameter '{field}' supplied: expected {expected}."
    )
