"""numpy's own file format, ``.npy``, as a body: one array with its type, or one table of named fields.

Nothing in it is believed before it is checked, and nothing is unpickled: an array of Python objects is refused. The
format is numpy's NEP 1; its own reader takes memory for what the header promises, and more kinds of it than we do.
"""

import ast
import io
import math
import re
import struct
from typing import Any

import numpy as np

from loaders.base import Form
from loaders.errors import BadInput, DecodedTooLarge
from loaders.payload import Arrays

_MAGIC = b"\x93NUMPY"
# The length of the header, by version; the last of them has its text in UTF-8.
_LENGTHS = {(1, 0): struct.Struct("<H"), (2, 0): struct.Struct("<I"), (3, 0): struct.Struct("<I")}
_HEADER_BYTES_MAX = 64 * 1024
_HEADER_KEYS = {"descr", "fortran_order", "shape"}
_AXES_MAX = 32
_DTYPE = re.compile(r"[<>|=]?(?:[biufSU]\d{1,9}|M8\[(?:\d{1,3})?\w{1,2}\])")
_ITEM_BYTES_MAX = 8
_CODE_POINTS = 0x110000
_SURROGATES = (0xD800, 0xE000)


class _NoHeader(ValueError):
    """Whatever is wrong with a header; only that something is matters to who sent it."""


def read_npy(body: bytes, bytes_max: int) -> Arrays:
    """The array in *body*, a view of it where it can be; named fields of a structured one are columns.

    Raises:
        BadInput: if it is no ``.npy``, holds more or less than its header says, or what no model takes.
        DecodedTooLarge: if it says it is over *bytes_max*.
    """
    try:
        header, begin = _read_header(body)
        descr, shape, fortran_order = header["descr"], _read_shape(header["shape"]), header["fortran_order"] is True
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        # The header is a Python literal, and what is wrong with one comes out in as many ways.
        raise BadInput("The body is no npy file: its header can't be read.") from error
    dtype = _read_dtype(descr)
    # Empty axes and empty items count as one, so that nothing that takes no bytes can be of any length.
    size = math.prod(max(1, axis) for axis in shape) * max(1, dtype.itemsize)
    if size > bytes_max:
        raise DecodedTooLarge(size, bytes_max)
    expected = math.prod(shape) * dtype.itemsize
    if len(body) - begin != expected:
        raise BadInput(
            f"The npy body should hold {expected} bytes for {dtype} of shape {shape}, it has {len(body) - begin}."
        )
    if not expected:
        array = np.empty(shape, dtype)
    else:
        array = np.frombuffer(body, dtype, offset=begin).reshape(shape, order="F" if fortran_order else "C")
    if dtype.names is None:
        return Arrays({"": _checked(array)}, Form.TENSOR)
    return Arrays({name: _checked(array[name]) for name in dtype.names}, Form.TABLE)


def write_npy(array: np.ndarray) -> bytes:
    """*array* as a ``.npy``. Its dtype must not be ``object``."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _read_header(body: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where the values begin."""
    if not body.startswith(_MAGIC) or len(body) < len(_MAGIC) + 2:
        raise _NoHeader("no magic")
    place = len(_MAGIC) + 2
    length = _LENGTHS.get((body[place - 2], body[place - 1]))
    if length is None or len(body) < place + length.size:
        raise _NoHeader("no version that is known")
    begin = place + length.size
    end = begin + length.unpack_from(body, place)[0]
    if end > len(body) or end - begin > _HEADER_BYTES_MAX:
        raise _NoHeader("longer than it may be")
    header = ast.literal_eval(body[begin:end].decode().strip())
    if not isinstance(header, dict) or set(header) != _HEADER_KEYS:
        raise _NoHeader("other keys")
    return header, end


def _read_shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or len(shape) > _AXES_MAX:
        raise _NoHeader("no shape")
    if any(type(axis) is not int or axis < 0 for axis in shape):
        raise _NoHeader("no length of an axis")
    return shape


def _read_dtype(descr: Any) -> np.dtype:
    if type(descr) is not list:
        return _read_item(descr, "The npy body")
    # Only plain fields: no title, no shape of their own, no gaps.
    fields = [field for field in descr if type(field) is tuple and len(field) == 2 and type(field[0]) is str]
    names = {name for name, _ in fields}
    if not fields or len(names) != len(descr) or "" in names:
        raise BadInput("The npy body must have fields of one value each, all with names of their own.")
    return np.dtype([(name, _read_item(item, f"Field {name!r} of the npy body")) for name, item in fields])


def _read_item(descr: Any, where: str) -> np.dtype:
    try:
        dtype = np.dtype(descr) if type(descr) is str and _DTYPE.fullmatch(descr) else None
    except TypeError:
        dtype = None
    if dtype is None or (dtype.kind in "fiu" and dtype.itemsize > _ITEM_BYTES_MAX):
        raise BadInput(
            f"{where} holds {str(descr)[:60]}; expected numbers of up to 64 bits, booleans, times, text or bytes."
        )
    return dtype


def _checked(array: np.ndarray) -> np.ndarray:
    """*array*, if each text in it is one: numpy itself looks at them only when they are used."""
    if array.dtype.kind != "U" or not array.size or not array.dtype.itemsize:
        return array
    native = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=False)
    points = native.reshape(-1).view(np.uint32)
    begin, end = _SURROGATES
    if (points >= _CODE_POINTS).any() or ((points >= begin) & (points < end)).any():
        raise BadInput("The npy body holds text that isn't Unicode.")
    return array
