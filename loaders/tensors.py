"""Tensor specs of a signature, and arrays out of nested lists."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from loaders import conversion
from loaders.base import Batch, Form
from loaders.casts import cast, natural, objects_of, text_where_it_is
from loaders.errors import BadInput, shown
from loaders.payload import Arrays, Data, Nested, Table, check_same_rows

_AXES_MAX = 32
_LISTS = {list, tuple}


class TensorSpec(msgspec.Struct, frozen=True):
    name: str | None
    dtype: str
    """numpy's name of it; ``str``, ``object`` and ``bytes`` become arrays of objects."""
    shape: tuple[int, ...]
    """-1 where any length goes."""


TensorSpecs = tuple[TensorSpec, ...]


def enforce_tensors(specs: TensorSpecs, data: Data) -> Batch:
    """*data* as the tensors of *specs*: one under ``""`` where the signature gives no names.

    Raises:
        BadInput: naming the input, its dtype and shape, and what came.
    """
    if specs[0].name is None:
        return Batch(Form.TENSOR, {"": _unnamed(specs[0], data)})
    given = _given_by_name(specs, data)
    missing = [spec.name for spec in specs if spec.name not in given]
    if missing:
        raise BadInput(f"Model is missing inputs {missing[:20]}.")
    from_text = isinstance(data, Table) and data.from_text
    arrays = {spec.name: tensor_array(spec, given[spec.name], from_text=from_text) for spec in specs if spec.name}
    check_same_rows(arrays)
    return Batch(Form.TENSORS, arrays)


def inferred_batch(data: Data) -> Batch:
    """The batch for a model without signature: a table, one tensor, or named ones, with dtypes that hold what came."""
    if isinstance(data, Arrays):
        return _batch_as_given(data)
    if isinstance(data, Table):
        infer: Any = conversion.inferred_from_text if data.from_text else conversion.inferred
        names = data.names or [str(place) for place in range(len(data.columns))]
        return Batch(
            Form.TABLE,
            {name: _named(name, infer, column) for name, column in zip(names, data.columns, strict=True)},
        )
    if isinstance(data.value, dict):
        arrays = {name: _inferred_array(name, value) for name, value in data.value.items()}
        check_same_rows(arrays)
        return Batch(Form.TENSORS, arrays)
    return Batch(Form.TENSOR, {"": _inferred_array("inputs", data.value)})


def tensor_array(spec: TensorSpec, value: Any, *, from_text: bool = False) -> np.ndarray:
    """*value* as an array of the dtype and the shape that *spec* asks for."""
    field = "The input" if spec.name is None else f"Input {spec.name!r}"
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "O" and spec.shape == (-1,):
        # MLflow's way to declare "a list of anything": rows may be ragged.
        if isinstance(value, np.ndarray):
            return objects_of(np.atleast_1d(value))
        return conversion.objects(value if isinstance(value, list | tuple) else [value])
    shape, leaves = (value.shape, []) if isinstance(value, np.ndarray) else flattened(field, value)
    if from_text:
        leaves = [cell if cell is None else conversion.number_from_text(cell) for cell in leaves]
    shape = _reconciled(field, spec, shape)
    try:
        array = cast(value, dtype) if isinstance(value, np.ndarray) else conversion.converted(leaves, dtype)
        return array.reshape(shape)
    except conversion.Misfit as misfit:
        row = misfit.index // max(1, math.prod(shape[1:]))
        raise BadInput(
            f"{field} ({spec.dtype}), row {row}: expected {misfit.expected}, got {shown(misfit.value)}."
        ) from misfit


def flattened(field: str, value: Any) -> tuple[tuple[int, ...], Sequence[Any]]:
    """The shape of nested lists, and their leaves in order; a scalar counts as one row.

    Raises:
        BadInput: if the lists are ragged.
    """
    level: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    shape = [len(level)]
    while level and isinstance(level[0], list | tuple):
        width = len(level[0])
        # Looked at as sets first: a loop over each item would take longer than all the rest.
        if not set(map(type, level)) <= _LISTS or set(map(len, level)) != {width}:
            index = next(i for i, item in enumerate(level) if type(item) not in _LISTS or len(item) != width)
            row = index // max(1, math.prod(shape[1:]))
            raise BadInput(f"{field}: expected lists of equal length, row {row} differs from the first.")
        if len(shape) == _AXES_MAX:
            raise BadInput(f"{field}: expected at most {_AXES_MAX} axes.")
        level = list(chain.from_iterable(level))
        shape.append(width)
    if not _LISTS.isdisjoint(map(type, level)):
        raise BadInput(f"{field}: expected lists of equal depth, some values are lists and some are not.")
    return tuple(shape), level


def _unnamed(spec: TensorSpec, data: Data) -> np.ndarray:
    if isinstance(data, Nested):
        if isinstance(data.value, dict):
            return tensor_array(spec, _only_value(data.value))
        return tensor_array(spec, data.value)
    if isinstance(data, Arrays):
        return _unnamed_array(spec, data)
    columns = data.columns
    rows = columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]
    return tensor_array(spec, rows, from_text=data.from_text)


def _unnamed_array(spec: TensorSpec, data: Arrays) -> np.ndarray:
    by_name = data.by_name
    if data.form is not Form.TABLE or len(by_name) == 1:
        return tensor_array(spec, _only_value(by_name))
    # A table's columns side by side. Each is cast first, since numpy would find a type that all of them fit into.
    check_same_rows(by_name)
    column = TensorSpec(None, spec.dtype, (-1,))
    return tensor_array(spec, np.stack([tensor_array(column, array) for array in by_name.values()], axis=1))


def _batch_as_given(data: Arrays) -> Batch:
    arrays = {name: _named(name, natural, array) for name, array in data.by_name.items()}
    if data.text_is_bytes:
        arrays = {name: text_where_it_is(array) for name, array in arrays.items()}
    check_same_rows(arrays)
    if data.form is Form.TENSOR:
        arrays = {"": _only_value(arrays)}
    if data.form is Form.TABLE:
        # A table's column may have lists as its values, but no axes.
        arrays = {name: array if array.ndim == 1 else objects_of(array) for name, array in arrays.items()}
    return Batch(data.form, arrays)


def _given_by_name(specs: TensorSpecs, data: Data) -> dict[str | None, Any]:
    if isinstance(data, Nested):
        if isinstance(data.value, dict):
            return dict(data.value)
        if len(specs) == 1:
            # One input needs no name to be told from the others.
            return {specs[0].name: data.value}
        raise BadInput(f"'inputs' must be an object of {[spec.name for spec in specs]}, got {shown(data.value)}.")
    if isinstance(data, Arrays):
        if set(data.by_name) == {""} and len(specs) == 1:
            return {specs[0].name: data.by_name[""]}
        return dict(data.by_name.items())
    if data.names is None:
        return dict(zip([spec.name for spec in specs], data.columns, strict=False))
    return dict(zip(data.names, data.columns, strict=True))


def _only_value(by_name: Mapping[str, Any]) -> Any:
    if len(by_name) != 1:
        raise BadInput(f"The model takes one tensor without a name, got an object of {len(by_name)}.")
    return next(iter(by_name.values()))


def _reconciled(field: str, spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """*shape*, if it is one that *spec* takes; a column of scalars also fits (-1, 1), as with MLflow."""
    if len(shape) == 1 and spec.shape == (-1, 1):
        return (*shape, 1)
    fits = len(shape) == len(spec.shape) and all(
        want in {-1, have} for want, have in zip(spec.shape, shape, strict=True)
    )
    # An empty list has no inner axes to speak of; they are the signature's.
    if not fits and shape == (0,) and -1 not in spec.shape[1:]:
        return (0, *spec.shape[1:])
    if not fits:
        raise BadInput(f"{field}: expected shape {spec.shape}, got {shape}.")
    return shape


def _inferred_array(name: str, value: Any) -> np.ndarray:
    shape, leaves = flattened(f"Input {name!r}", value)
    return _named(name, conversion.inferred, leaves).reshape(shape)


def _named(name: str, infer: Any, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    try:
        array: np.ndarray = infer(values)
    except conversion.Misfit as misfit:
        raise BadInput(f"Input {name!r}: expected {misfit.expected}, got {shown(misfit.value)}.") from misfit
    return array
