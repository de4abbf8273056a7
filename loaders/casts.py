"""Arrays into arrays of another type, by the same safe conversions as `loaders.conversion` makes of JSON values.

What came as numbers is converted as a whole, and what is of the right type already is passed on as it is, without a
copy. Nothing is written into: arrays may be views of a body that was received.
"""

import numpy as np

from loaders import conversion
from loaders.conversion import Misfit

_JSON_TYPES = {str, bytes, int, float, bool, list, dict, type(None)}


def cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """*array*, its shape kept, as what *dtype* stands for: text is ``U``, bytes ``S``, any JSON value ``O``.

    Raises:
        Misfit: for the first value that can't be converted, by its place in the flat array.
    """
    if not array.size:
        # Of nothing, any type is right.
        return conversion.converted([], dtype).reshape(array.shape)
    array = natural(array)
    if array.dtype.kind == "O":
        return conversion.converted(array.reshape(-1).tolist(), dtype).reshape(array.shape)
    match dtype.kind:
        case "f":
            return _floats(array, dtype)
        case "i" | "u":
            return _integers(array, dtype)
        case "b":
            return _of_kind("b", array, "true or false")
        case "U":
            return _of_kind("O", array, "a string")
        case "S":
            return _of_kind("O", array, "bytes")
        case "M":
            return _times(_of_kind("M", array, "a time in ISO 8601"))
        case _:
            return objects_of(array.reshape(-1)).reshape(array.shape)


def natural(array: np.ndarray) -> np.ndarray:
    """*array* as the rest of us holds such values: in this machine's byte order, and text as objects.

    Raises:
        Misfit: if it holds what no model takes.
    """
    match array.dtype.kind:
        case "b" | "i" | "u" | "f" | "M":
            return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        case "U" | "S":
            return array.astype(object)
        case "O":
            _check_objects(array)
            return array
        case _:
            raise Misfit(0, f"numbers, booleans, times, text or bytes instead of {array.dtype}", _first(array))


def objects_of(array: np.ndarray) -> np.ndarray:
    """One object a row: the JSON value that it would be, lists in lists where *array* has more axes than one.

    Raises:
        Misfit: if it holds what no model takes.
    """
    array = natural(array)
    return conversion.objects((iso_texts(array) if array.dtype.kind == "M" else array).tolist())


def iso_texts(times: np.ndarray) -> np.ndarray:
    """*times* as ISO 8601 writes them; a missing one is None."""
    written: np.ndarray = np.datetime_as_string(times).astype(object)
    written[np.isnat(times)] = None
    return written


def text_where_it_is(array: np.ndarray) -> np.ndarray:
    """An array of bytes as one of strings, if all of them are UTF-8; anything else as it is."""
    if array.dtype.kind != "O" or {type(value) for value in array.flat} != {bytes}:
        return array
    try:
        return conversion.strings(array.reshape(-1).tolist()).reshape(array.shape)
    except Misfit:
        return array


def _floats(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "iuf":
        raise Misfit(0, "a number", _first(array))
    if array.dtype == np.uint64:
        # As in JSON: beyond 64 bits with a sign, too much would be lost.
        _check_range(array, np.iinfo(np.int64), "an integer of 64 bits")
    return conversion.narrowed(array.astype(np.float64), dtype)


def _integers(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype == dtype:
        return array
    expected = f"a whole number within {dtype}"
    match array.dtype.kind:
        case "f":
            _check_whole(array)
        case "i" | "u":
            pass
        case _:
            raise Misfit(0, "a whole number", _first(array))
    _check_range(array, np.iinfo(dtype), expected)
    return array.astype(dtype)


def _of_kind(kind: str, array: np.ndarray, expected: str) -> np.ndarray:
    if array.dtype.kind != kind:
        raise Misfit(0, expected, _first(array))
    return array


def _times(array: np.ndarray) -> np.ndarray:
    nanoseconds = array.astype("datetime64[ns]")
    # numpy wraps around silently outside 1678-2261, where nanoseconds leave 64 bits.
    same = (nanoseconds.astype(array.dtype) == array) | np.isnat(array)
    if not same.all():
        index = int(np.argmin(same))
        raise Misfit(index, "a time between 1678 and 2261", str(array.flat[index]))
    return nanoseconds


def _check_whole(array: np.ndarray) -> None:
    broken = ~(np.isfinite(array) & (np.trunc(array) == array))
    if broken.any():
        index = int(np.argmax(broken))
        # It says what is wrong, and that an integer column holds no missing values.
        conversion.whole(index, array.flat[index].item())


def _check_range(array: np.ndarray, limits: "np.iinfo[np.integer]", expected: str) -> None:
    # By Python's integers, which compare exactly, whatever the two types are.
    if int(array.max()) <= limits.max and int(array.min()) >= limits.min:
        return
    index = next(i for i, value in enumerate(array.flat) if not limits.min <= int(value) <= limits.max)
    raise Misfit(index, expected, array.flat[index].item())


def _check_objects(array: np.ndarray) -> None:
    if {type(value) for value in array.flat} <= _JSON_TYPES:
        return
    index = next(i for i, value in enumerate(array.flat) if type(value) not in _JSON_TYPES)
    raise Misfit(index, "text, bytes or a JSON value", array.flat[index])


def _first(array: np.ndarray) -> object:
    value = array.flat[0]
    return value.item() if array.dtype.kind in "biuf" else str(value)
