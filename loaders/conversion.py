"""JSON values into arrays, by safe conversions only; `loaders.casts` does the same for what comes in arrays.

Safe is what loses nothing: a whole number becomes a double, null a NaN, an ISO 8601 string a time, base64 bytes.
A boolean is not a number, a string not a number, and a fraction not an integer.
"""

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

Values = Sequence[Any]

_FLOATS = {float}
_NUMBERS = {float, int}
_NUMBERS_OR_NULL = {float, int, type(None)}
_STRINGS_OR_NULL = {str, type(None)}
_INT64_LIMIT = 2**63
_INT64_AS_DOUBLE = float(_INT64_LIMIT)


class Misfit(Exception):
    """The value at *index* that can't be converted; whoever knows the field's name says the sentence."""

    def __init__(self, index: int, expected: str, value: Any) -> None:
        super().__init__(expected)
        self.index = index
        self.expected = expected
        self.value = value


def converted(values: Values, dtype: np.dtype) -> np.ndarray:
    """*values* as an array (values,) for what *dtype* stands for: text is ``U``, bytes ``S``, any JSON value ``O``.

    Raises:
        Misfit: for the first value that can't be converted.
    """
    match dtype.kind:
        case "f":
            return floats(values, dtype)
        case "i" | "u":
            return integers(values, dtype)
        case "b":
            return booleans(values)
        case "U":
            return strings(values)
        case "S":
            return binaries(values)
        case "M":
            return datetimes(values)
        case _:
            return objects(values)


def are_doubles(values: Values) -> bool:
    """Whether `floats` would take *values* as doubles."""
    kinds = set(map(type, values))
    if kinds == _FLOATS:
        return True
    return kinds <= _NUMBERS_OR_NULL and (int not in kinds or all(type(v) is not int or _in_int64(v) for v in values))


def floats(values: Values, dtype: np.dtype) -> np.ndarray:
    """Numbers as *dtype*; null is NaN. Infinities pass, what only overflows *dtype* doesn't."""
    kinds = set(map(type, values))
    if not kinds <= _NUMBERS_OR_NULL:
        _raise_first(values, lambda value: type(value) in _NUMBERS_OR_NULL, "a number")
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        array = np.array([_INT64_AS_DOUBLE])
    # A huge double is fine, a huge integer isn't: it would come out as another number.
    if int in kinds and array.size and not np.nanmax(np.abs(array), initial=0) < _INT64_AS_DOUBLE:
        _raise_first(values, lambda value: type(value) is not int or _in_int64(value), "an integer of 64 bits")
    return narrowed(array, dtype)


def narrowed(doubles: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """*doubles* as *dtype*, which may round but not make a number infinite."""
    if dtype == np.float64:
        return doubles
    with np.errstate(over="ignore"):
        narrow = doubles.astype(dtype)
    overflown = np.isinf(narrow) & ~np.isinf(doubles)
    if overflown.any():
        index = int(np.argmax(overflown))
        raise Misfit(index, f"a number within {dtype}", doubles.flat[index].item())
    return narrow


def integers(values: Values, dtype: np.dtype) -> np.ndarray:
    """Whole numbers as *dtype*. ``3.0`` is one, since JSON makes no difference between the two."""
    if set(map(type, values)) != {int}:
        values = [whole(index, value) for index, value in enumerate(values)]
    limits = np.iinfo(dtype)
    try:
        array = np.array(values, dtype=np.int64 if dtype.kind == "i" else np.uint64)
    except OverflowError:
        array = None
    if array is None or (array.size and (array.max() > limits.max or array.min() < limits.min)):
        _raise_first(values, lambda value: limits.min <= value <= limits.max, f"a whole number within {dtype}")
    return np.asarray(array, dtype=dtype)


def booleans(values: Values) -> np.ndarray:
    if set(map(type, values)) != {bool}:
        _raise_first(values, lambda value: type(value) is bool, "true or false")
    return np.array(values, dtype=np.bool_)


def strings(values: Values) -> np.ndarray:
    """Text; bytes, which JSON has none of, are text in UTF-8."""
    if bytes in set(map(type, values)):
        values = [_text(index, value) if type(value) is bytes else value for index, value in enumerate(values)]
    if not set(map(type, values)) <= _STRINGS_OR_NULL:
        _raise_first(values, lambda value: type(value) in _STRINGS_OR_NULL, "a string")
    return objects(values)


def binaries(values: Values) -> np.ndarray:
    """Bytes from base64, as MLflow sends them, or as they are."""
    return objects([_bytes(index, value) for index, value in enumerate(values)])


def datetimes(values: Values) -> np.ndarray:
    """Times from ISO 8601; one with an offset is turned to UTC, as ``datetime64`` knows no zones. Null is NaT."""
    times = [_time(index, value) for index, value in enumerate(values)]
    array = np.array(times, dtype="datetime64[us]")
    # numpy wraps around silently outside 1678-2261, where nanoseconds leave 64 bits.
    nanoseconds = array.astype("datetime64[ns]")
    if not np.array_equal(nanoseconds.astype("datetime64[us]"), array, equal_nan=True):
        index = int(np.argmax(nanoseconds.astype("datetime64[us]") != array))
        raise Misfit(index, "a time between 1678 and 2261", values[index])
    return nanoseconds


def objects(values: Values) -> np.ndarray:
    """*values* as they are. Assigned one by one, since numpy would make an axis of lists within."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def inferred(values: Values) -> np.ndarray:
    """An array of the narrowest kind that holds all *values*: what a model without signature gets."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return integers(values, np.dtype(np.int64))
    if kinds and kinds <= _NUMBERS_OR_NULL and kinds & _NUMBERS:
        return floats(values, np.dtype(np.float64))
    if kinds == {bool}:
        return booleans(values)
    return objects(values)


def inferred_from_text(cells: Sequence[str | None]) -> np.ndarray:
    """As `inferred`, for the cells of CSV: integers, else numbers, else booleans, else strings."""
    for parse in (int_from_text, float_from_text, bool_from_text):
        parsed = [cell if cell is None else parse(cell) for cell in cells]
        if not any(isinstance(value, str) for value in parsed):
            return inferred(parsed)
    return strings(cells)


def float_from_text(cell: str) -> float | str:
    """The number in *cell*, else *cell* itself, so that the next step says what was expected."""
    try:
        # Python takes "1_000", which is no number to anybody else.
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell


def int_from_text(cell: str) -> int | str:
    try:
        return cell if "_" in cell or len(cell) > 40 else int(cell)
    except ValueError:
        return cell


def number_from_text(cell: str) -> float | str:
    whole = int_from_text(cell)
    return float_from_text(cell) if isinstance(whole, str) else whole


def bool_from_text(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _in_int64(value: int) -> bool:
    return -_INT64_LIMIT <= value < _INT64_LIMIT


def whole(index: int, value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    expected = "a whole number"
    if value is None or (type(value) is float and math.isnan(value)):
        expected += " (an integer column can't hold missing values; declare it double where they occur)"
    raise Misfit(index, expected, value)


def _text(index: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Misfit(index, "a string in UTF-8", value) from error


def _bytes(index: int, value: Any) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    if type(value) is str:
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise Misfit(index, "bytes in base64", value)


def _time(index: int, value: Any) -> datetime | None:
    if value is None:
        return None
    if type(value) is str:
        try:
            time = datetime.fromisoformat(value)
            return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            pass
    raise Misfit(index, "a time in ISO 8601", value)


def _raise_first(values: Values, fits: Callable[[Any], bool], expected: str) -> None:
    for index, value in enumerate(values):
        if not fits(value):
            raise Misfit(index, expected, value)
