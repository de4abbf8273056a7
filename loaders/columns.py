"""Column specs of a signature: a table's columns, matched by name, reordered, and converted to their types."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from loaders import conversion
from loaders.base import Batch, DoubleRow, Form
from loaders.casts import cast, objects_of
from loaders.errors import BadInput, shown
from loaders.payload import Arrays, Data, Nested, Table, check_same_rows, read_records, transposed

_FLOAT64 = np.dtype(np.float64)


class ColumnType(StrEnum):
    """MLflow's column types (mlflow/types/schema.py), in the words of its signatures."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "string"
    BINARY = "binary"
    DATETIME = "datetime"
    JSON = "json"
    """Ours for MLflow's array, object, map and any: passed on as the JSON value that came, since only
    ``python_function`` models take them and MLflow's own code checks them there."""


class ColumnSpec(msgspec.Struct, frozen=True):
    name: str | None
    """None in signatures without names, whose columns are matched by position."""
    type: ColumnType
    required: bool = True


ColumnSpecs = tuple[ColumnSpec, ...]

Matched = tuple[str, ColumnSpec, Sequence[Any] | np.ndarray]
"""What a column is called in the batch, its spec, and its values."""

# Text is U, bytes S, any JSON value O, as `conversion` reads them.
_DTYPES = {
    ColumnType.BOOLEAN: np.dtype(np.bool_),
    ColumnType.INTEGER: np.dtype(np.int32),
    ColumnType.LONG: np.dtype(np.int64),
    ColumnType.FLOAT: np.dtype(np.float32),
    ColumnType.DOUBLE: _FLOAT64,
    ColumnType.STRING: np.dtype(np.str_),
    ColumnType.BINARY: np.dtype(np.bytes_),
    ColumnType.DATETIME: np.dtype("datetime64[ns]"),
    ColumnType.JSON: np.dtype(object),
}


def names_of_doubles(specs: ColumnSpecs) -> tuple[str, ...]:
    """The names of all columns, if all are doubles and have one; else none."""
    names = tuple(spec.name for spec in specs if spec.type is ColumnType.DOUBLE and spec.name is not None)
    return names if len(names) == len(specs) else ()


def enforce_columns(specs: ColumnSpecs, data: Data) -> Batch:
    """*data* as a TABLE with the columns of *specs*, in their order; other columns are dropped.

    Raises:
        BadInput: naming the column, what was expected there, and what came.
    """
    table = as_table(specs, data)
    positional = table.names is None or specs[0].name is None
    matched = _by_position(specs, table) if positional else _by_name(specs, table)
    return Batch(
        Form.TABLE,
        {name: column_array(name, spec.type, values, from_text=table.from_text) for name, spec, values in matched},
    )


def find_double_row(names: tuple[str, ...], data: Data) -> DoubleRow | None:
    """The one row of *data*, where the columns *names* are all doubles; None if it isn't as plain as that.

    What isn't goes the long way, which says which column is wrong.
    """
    values = _one_row(names, data)
    return DoubleRow(names, values) if values is not None and conversion.are_doubles(values) else None


def _one_row(names: tuple[str, ...], data: Data) -> list[Any] | None:
    match data:
        case Nested(value=[[*row]]) if len(row) == len(names) > 1:
            return row
        case Table(names=given_names, columns=columns, from_text=False) if given_names is not None and data.rows == 1:
            given = dict(zip(given_names, columns, strict=True))
            try:
                return [given[name][0] for name in names]
            except KeyError:
                return None
        case Arrays(by_name=by_name):
            return _one_row_of_arrays(names, by_name)
        case _:
            return None


def _one_row_of_arrays(names: tuple[str, ...], by_name: Mapping[str, np.ndarray]) -> list[Any] | None:
    if any(array.dtype != _FLOAT64 for array in by_name.values()):
        return None
    if by_name.keys() == set(names):
        columns = [by_name[name] for name in names]
        return [column.item() for column in columns] if all(one.shape in {(1,), (1, 1)} for one in columns) else None
    if len(by_name) == 1 and by_name.keys().isdisjoint(names):
        [matrix] = by_name.values()
        return matrix[0].tolist() if matrix.shape == (1, len(names)) else None
    return None


def column_array(
    name: str, type_: ColumnType, values: Sequence[Any] | np.ndarray, *, from_text: bool = False
) -> np.ndarray:
    """The *values* of column *name* as an array (rows,)."""
    try:
        if isinstance(values, np.ndarray):
            return _cast_column(name, type_, values)
        return conversion.converted(_from_text(type_, values) if from_text else values, _DTYPES[type_])
    except conversion.Misfit as misfit:
        raise BadInput(
            f"Column {name!r} ({type_}), row {misfit.index}: expected {misfit.expected}, got {shown(misfit.value)}."
        ) from misfit


def as_table(specs: ColumnSpecs, data: Data) -> Table:
    """The table that *data* means to a signature of columns, whichever way it was sent."""
    if isinstance(data, Table):
        return data
    if isinstance(data, Arrays):
        return _table_from_arrays(specs, data.by_name)
    match data.value:
        case dict() as by_name:
            return _table_from_dict(by_name)
        case [dict(), *_] as records if len(specs) != 1 or specs[0].type is not ColumnType.JSON:
            return read_records(records, "inputs")
        case list() as rows:
            return _table_from_list(specs, rows)
        case scalar if len(specs) == 1:
            return Table(None, [[scalar]])
        case scalar:
            raise BadInput(f"'inputs' must be rows of {len(specs)} columns, got {shown(scalar)}.")


def _by_name(specs: ColumnSpecs, table: Table) -> list[Matched]:
    given = dict(zip(table.names or (), table.columns, strict=True))
    missing = [spec.name for spec in specs if spec.required and spec.name not in given]
    if missing:
        extra = [name for name in given if name not in {spec.name for spec in specs}]
        note = f" Note that there were extra inputs: {extra[:20]}." if extra else ""
        raise BadInput(f"Model is missing inputs {missing[:20]}.{note}")
    return [(spec.name, spec, given[spec.name]) for spec in specs if spec.name is not None and spec.name in given]


def _by_position(specs: ColumnSpecs, table: Table) -> list[Matched]:
    """Columns matched by place.

    A signature without names takes the first ones, as MLflow does; one with names wants neither more nor fewer,
    since nothing else says which is which.
    """
    _check_width(specs, len(table.columns))
    return [
        (str(place) if spec.name is None else spec.name, spec, values)
        for place, (spec, values) in enumerate(zip(specs, table.columns, strict=False))
    ]


def _check_width(specs: ColumnSpecs, width: int) -> None:
    required = sum(spec.required for spec in specs)
    named = specs[0].name is not None
    if width < required or (named and width > len(specs)):
        names = f" {[spec.name for spec in specs][:20]}" if named else ""
        raise BadInput(f"The model takes {len(specs)} columns{names}, got {width}.")


def _table_from_dict(by_name: dict[str, Any]) -> Table:
    if by_name and not any(isinstance(value, list) for value in by_name.values()):
        # One row, written as MLflow's client writes a dict of scalars.
        return Table(list(by_name), [[value] for value in by_name.values()])
    rows = next((len(value) for value in by_name.values() if isinstance(value, list)), 0)
    for name, value in by_name.items():
        if not isinstance(value, list):
            raise BadInput(f"Column {name!r}: expected a list of values, got {shown(value)}.")
        if len(value) != rows:
            raise BadInput(f"Column {name!r}: expected {rows} values as in the others, got {len(value)}.")
    return Table(list(by_name), list(by_name.values()))


def _table_from_list(specs: ColumnSpecs, rows: list[Any]) -> Table:
    if len(specs) == 1 and (specs[0].type is ColumnType.JSON or not any(isinstance(row, list) for row in rows)):
        return Table(None, [rows])
    if rows and not any(isinstance(row, list) for row in rows):
        raise BadInput(f"'inputs' must be a list of rows of {len(specs)} values each; for one row write [[...]].")
    return Table(None, transposed(rows, None if rows else len(specs), "inputs"))


def _table_from_arrays(specs: ColumnSpecs, by_name: Mapping[str, np.ndarray]) -> Table:
    if len(by_name) == 1:
        [(name, array)] = by_name.items()
        if name not in {spec.name for spec in specs}:
            columns = _columns_of_matrix(specs, name, array)
            if columns is not None:
                return Table(None, columns)
    check_same_rows(by_name)
    return Table(list(by_name), list(by_name.values()))


def _columns_of_matrix(specs: ColumnSpecs, name: str, array: np.ndarray) -> list[np.ndarray] | None:
    """The columns of an only array that the signature has no name for; None if it ought to have one of its names."""
    if len(specs) == 1 and array.ndim and (specs[0].type is ColumnType.JSON or array.ndim == 1) and not name:
        return [array]
    if array.ndim == 2:
        # As those send them who know a model's inputs as one matrix. An empty one may claim any width.
        _check_width(specs, array.shape[1])
        return list(array.T[: len(specs)])
    if not name:
        raise BadInput(f"'inputs' must be rows of {len(specs)} values each, got an array of shape {array.shape}.")
    return None


def _cast_column(name: str, type_: ColumnType, array: np.ndarray) -> np.ndarray:
    if type_ is ColumnType.JSON:
        return objects_of(array)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise BadInput(f"Column {name!r}: expected shape (rows,) or (rows, 1), got {array.shape}.")
    return cast(array, _DTYPES[type_])


def _from_text(type_: ColumnType, cells: Sequence[str | None]) -> Sequence[Any]:
    match type_:
        case ColumnType.DOUBLE | ColumnType.FLOAT:
            return [cell if cell is None else conversion.float_from_text(cell) for cell in cells]
        case ColumnType.LONG | ColumnType.INTEGER:
            return [cell if cell is None else conversion.number_from_text(cell) for cell in cells]
        case ColumnType.BOOLEAN:
            return [cell if cell is None else conversion.bool_from_text(cell) for cell in cells]
        case _:
            return cells
