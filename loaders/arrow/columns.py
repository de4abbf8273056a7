"""One column of Arrow's into an array of numpy's, and back, by their buffers.

Missing numbers of floating point become NaN and missing times NaT; anything else that may be missing comes in an
``object`` array with ``None``. Arrays must have been validated in full: offsets and lengths are believed here.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from loaders.arrow.budget import Budget
from loaders.errors import BadInput

# What a string costs beside its own bytes: Python's object and the pointer to it.
_OBJECT_BYTES = 64
_DAYS_AND_MORE = frozenset({"Y", "M", "W", "D", "h", "m"})


class _NotTaken(Exception):
    """A type of Arrow's that no model's input has."""


def values_of(name: str, array: pa.Array, budget: Budget) -> np.ndarray:
    """The values of column *name*, shape (rows, ...): lists of fixed length are further axes.

    Raises:
        BadInput: for a type that no model takes.
        DecodedTooLarge: if they are over the *budget*.
    """
    try:
        return _values(array, budget)
    except _NotTaken as error:
        raise BadInput(f"Column {name!r} is of Arrow's type {error}, which no model takes here.") from error


def _values(array: pa.Array, budget: Budget) -> np.ndarray:
    type_ = array.type
    if isinstance(array, pa.ExtensionArray):
        return _values(array.storage, budget)
    if kinds.is_dictionary(type_):
        return _of_dictionary(array, budget)
    if kinds.is_fixed_size_list(type_):
        return _of_fixed_lists(array, budget)
    if kinds.is_list(type_) or kinds.is_large_list(type_):
        return _of_lists(array, budget)
    if kinds.is_string_view(type_) or kinds.is_binary_view(type_):
        return _of_views(array, budget)
    if kinds.is_null(type_):
        budget.spend(len(array) * _OBJECT_BYTES)
        return np.full(len(array), None, dtype=object)
    if kinds.is_boolean(type_):
        return _with_missing(array, _bits(array, 1), budget)
    if kinds.is_string(type_) or kinds.is_large_string(type_):
        return _of_strings(array, budget, decode=True)
    if kinds.is_binary(type_) or kinds.is_large_binary(type_):
        return _of_strings(array, budget, decode=False)
    return _with_missing(array, _fixed(array, _dtype_of(type_)), budget)


def _dtype_of(type_: pa.DataType) -> np.dtype:
    if kinds.is_floating(type_) or kinds.is_integer(type_):
        kind = "f" if kinds.is_floating(type_) else "i" if kinds.is_signed_integer(type_) else "u"
        return np.dtype(f"{kind}{type_.bit_width // 8}")
    if kinds.is_timestamp(type_):
        return np.dtype(f"datetime64[{type_.unit}]")
    if kinds.is_date32(type_):
        # Days in 32 bits, which datetime64 has not.
        return np.dtype(np.int32)
    if kinds.is_date64(type_):
        return np.dtype("datetime64[ms]")
    raise _NotTaken(str(type_))


def _fixed(array: pa.Array, dtype: np.dtype) -> np.ndarray:
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        values = np.empty(0, dtype)
    else:
        values = np.frombuffer(buffer, dtype, count=array.offset + len(array))[array.offset :]
    return values.astype("datetime64[D]") if kinds.is_date32(array.type) else values


def _with_missing(array: pa.Array, values: np.ndarray, budget: Budget) -> np.ndarray:
    budget.spend(values.nbytes)
    if not array.null_count:
        return values
    missing = ~_bits(array, 0)
    if values.dtype.kind in "fM":
        values = values.copy()
        values[missing] = "NaT" if values.dtype.kind == "M" else np.nan
        return values
    budget.spend(len(values) * _OBJECT_BYTES)
    objects = values.astype(object)
    objects[missing] = None
    return objects


def _bits(array: pa.Array, place: int) -> np.ndarray:
    """The bitmap in the buffer at *place*, one boolean a row."""
    buffer = array.buffers()[place]
    if buffer is None:
        return np.ones(len(array), np.bool_)
    begin, end = array.offset, array.offset + len(array)
    packed = np.frombuffer(buffer, np.uint8, count=(end + 7) // 8)
    return np.unpackbits(packed, count=end, bitorder="little")[begin:].view(np.bool_)


def _of_strings(array: pa.Array, budget: Budget, *, decode: bool) -> np.ndarray:
    wide = kinds.is_large_string(array.type) or kinds.is_large_binary(array.type)
    _, offsets_buffer, data_buffer = array.buffers()
    values = np.full(len(array), None, dtype=object)
    if not len(array):
        return values
    offsets = np.frombuffer(offsets_buffer, np.int64 if wide else np.int32)[array.offset :][: len(array) + 1]
    budget.spend(len(array) * _OBJECT_BYTES + int(offsets[-1] - offsets[0]))
    data = b"" if data_buffer is None else data_buffer.to_pybytes()
    begins, ends = offsets[:-1].tolist(), offsets[1:].tolist()
    pieces: Iterable[Any] = (data[begin:end] for begin, end in zip(begins, ends, strict=True))
    if decode:
        pieces = (piece.decode() for piece in pieces)
    values[:] = list(pieces)
    if array.null_count:
        values[~_bits(array, 0)] = None
    return values


def _of_views(array: pa.Array, budget: Budget) -> np.ndarray:
    # Many may look at the same bytes, so that together they are longer than all that was sent.
    lengths = np.frombuffer(array.buffers()[1] or b"", np.int32).reshape(-1, 4)[array.offset :][: len(array), 0]
    budget.spend(int(lengths.sum(dtype=np.int64)))
    text = kinds.is_string_view(array.type)
    return _values(array.cast(pa.large_string() if text else pa.large_binary()), budget)


def _of_dictionary(array: pa.DictionaryArray, budget: Budget) -> np.ndarray:
    words = _values(array.dictionary, budget)
    places = _fixed(array.indices, _dtype_of(array.indices.type))
    missing = ~_bits(array.indices, 0) if array.indices.null_count else np.zeros(len(array), np.bool_)
    budget.spend(len(array) * 8)
    values = np.full(len(array), None, dtype=object)
    values[~missing] = words.astype(object)[places[~missing]]
    if words.dtype.kind == "O":
        # The words are shared here, and written out one by one on their way to the model.
        lengths = np.array([len(word) if isinstance(word, str | bytes) else 8 for word in words], np.int64)
        budget.spend(int(lengths[places[~missing]].sum()) if len(words) else 0)
    return values if words.dtype.kind == "O" or missing.any() else values.astype(words.dtype)


def _of_fixed_lists(array: pa.FixedSizeListArray, budget: Budget) -> np.ndarray:
    if array.null_count:
        raise BadInput("A list of fixed length is missing where a row's values must be.")
    length = array.type.list_size
    budget.spend(len(array))
    inner = _values(array.values.slice(array.offset * length, len(array) * length), budget)
    return inner.reshape((len(array), length, *inner.shape[1:]))


def _of_lists(array: Any, budget: Budget) -> np.ndarray:
    wide = kinds.is_large_list(array.type)
    values = np.full(len(array), None, dtype=object)
    if not len(array):
        return values
    offsets = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)[array.offset :][: len(array) + 1]
    budget.spend(len(array) * _OBJECT_BYTES)
    first, last = int(offsets[0]), int(offsets[-1])
    inner = _values(array.values.slice(first, last - first), budget)
    budget.spend(inner.size * _OBJECT_BYTES)
    listed = inner.tolist()
    starts = (offsets - first).tolist()
    for row, (begin, end) in enumerate(pairwise(starts)):
        values[row] = listed[begin:end]
    if array.null_count:
        values[~_bits(array, 0)] = None
    return values


# --- back


def column_of(values: np.ndarray) -> pa.Array:
    """*values*, shape (rows, ...), as a column: further axes become lists of fixed length, ``None`` and NaT null.

    Raises:
        BadInput: if it holds Python's lists or dicts, or several types.
    """
    if values.ndim > 1:
        inner = column_of(values.reshape(-1, *values.shape[2:]))
        return pa.FixedSizeListArray.from_arrays(inner, values.shape[1])
    if values.dtype.kind == "O":
        return _column_of_objects(values)
    if values.dtype.kind == "b":
        packed = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed.tobytes())])
    if values.dtype.kind == "M":
        return _column_of_times(values)
    native = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
    return pa.Array.from_buffers(pa.from_numpy_dtype(native.dtype), len(native), [None, pa.py_buffer(native)])


def _column_of_times(values: np.ndarray) -> pa.Array:
    unit, count = np.datetime_data(values.dtype)
    # Arrow has no days, and none of numpy's multiples.
    unit = unit if unit in {"s", "ms", "us", "ns"} and count == 1 else "s" if unit in _DAYS_AND_MORE else "ns"
    times = np.ascontiguousarray(values.astype(f"datetime64[{unit}]"))
    valid = np.packbits(~np.isnat(times), bitorder="little").tobytes()
    buffers = [pa.py_buffer(valid), pa.py_buffer(times.view(np.int64))]
    return pa.Array.from_buffers(pa.timestamp(unit), len(values), buffers)


def _column_of_objects(values: np.ndarray) -> pa.Array:
    found = {type(value) for value in values} - {type(None)}
    if not found <= {str} and not found <= {bytes}:
        raise BadInput("The answer holds values that a column of Arrow's can't; ask for JSON.")
    pieces = [b"" if value is None else value.encode() if isinstance(value, str) else value for value in values]
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    valid = np.packbits([value is not None for value in values], bitorder="little").tobytes()
    type_ = pa.large_binary() if found == {bytes} else pa.large_string()
    buffers = [pa.py_buffer(valid), pa.py_buffer(offsets), pa.py_buffer(b"".join(pieces))]
    return pa.Array.from_buffers(type_, len(pieces), buffers)
