"""Column specs of a signature: a table's columns, matched by name, reordered, and converted to their types."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from loaders import conversion
from loaders.base import Batch, Form
from loaders.errors import BadInput, shown
from loaders.payload import Data, Nested, Table, read_records, transposed

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


def all_doubles(specs: ColumnSpecs) -> bool:
    return all(spec.type is ColumnType.DOUBLE and spec.name is not None for spec in specs)


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


def find_row_of_doubles(specs: ColumnSpecs, data: Data) -> Batch | None:
    """The batch for one row, where all columns are doubles and have names; None if it isn't as plain as that.

    The common request, in a fraction of the time: one array for the whole row, and views of it.
    """
    values = _one_row(specs, data)
    if values is None:
        return None
    try:
        row = conversion.floats(values, _FLOAT64)
    except conversion.Misfit:
        # The long way says which column it was.
        return None
    return Batch(Form.TABLE, {spec.name: row[index : index + 1] for index, spec in enumerate(specs)})  # type: ignore[misc]  # all named


def _one_row(specs: ColumnSpecs, data: Data) -> list[Any] | None:
    match data:
        case Table(names=names, columns=columns, from_text=False) if names is not None and data.rows == 1:
            given = dict(zip(names, columns, strict=True))
            try:
                return [given[spec.name][0] for spec in specs]  # type: ignore[index]  # all named
            except KeyError:
                return None
        case Nested(value=[[*row]]) if len(row) == len(specs) > 1:
            return row
        case _:
            return None


def column_array(name: str, type_: ColumnType, values: Sequence[Any], *, from_text: bool = False) -> np.ndarray:
    """The *values* of column *name* as an array (rows,)."""
    if from_text:
        values = _from_text(type_, values)
    try:
        return _converted(type_, values)
    except conversion.Misfit as misfit:
        raise BadInput(
            f"Column {name!r} ({type_}), row {misfit.index}: expected {misfit.expected}, got {shown(misfit.value)}."
        ) from misfit


def as_table(specs: ColumnSpecs, data: Data) -> Table:
    """The table that *data* means to a signature of columns, whichever way it was sent."""
    if isinstance(data, Table):
        return data
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


def _by_name(specs: ColumnSpecs, table: Table) -> list[tuple[str, ColumnSpec, Sequence[Any]]]:
    given = dict(zip(table.names or (), table.columns, strict=True))
    missing = [spec.name for spec in specs if spec.required and spec.name not in given]
    if missing:
        extra = [name for name in given if name not in {spec.name for spec in specs}]
        note = f" Note that there were extra inputs: {extra[:20]}." if extra else ""
        raise BadInput(f"Model is missing inputs {missing[:20]}.{note}")
    return [(spec.name, spec, given[spec.name]) for spec in specs if spec.name is not None and spec.name in given]


def _by_position(specs: ColumnSpecs, table: Table) -> list[tuple[str, ColumnSpec, Sequence[Any]]]:
    """Columns matched by place.

    A signature without names takes the first ones, as MLflow does; one with names wants neither more nor fewer,
    since nothing else says which is which.
    """
    required = sum(spec.required for spec in specs)
    named = specs[0].name is not None
    if len(table.columns) < required or (named and len(table.columns) > len(specs)):
        names = f" {[spec.name for spec in specs][:20]}" if named else ""
        raise BadInput(f"The model takes {len(specs)} columns{names}, got {len(table.columns)}.")
    return [
        (str(place) if spec.name is None else spec.name, spec, values)
        for place, (spec, values) in enumerate(zip(specs, table.columns, strict=False))
    ]


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


def _converted(type_: ColumnType, values: Sequence[Any]) -> np.ndarray:
    match type_:
        case ColumnType.DOUBLE:
            return conversion.floats(values, _FLOAT64)
        case ColumnType.FLOAT:
            return conversion.floats(values, np.dtype(np.float32))
        case ColumnType.LONG:
            return conversion.integers(values, np.dtype(np.int64))
        case ColumnType.INTEGER:
            return conversion.integers(values, np.dtype(np.int32))
        case ColumnType.BOOLEAN:
            return conversion.booleans(values)
        case ColumnType.STRING:
            return conversion.strings(values)
        case ColumnType.BINARY:
            return conversion.binaries(values)
        case ColumnType.DATETIME:
            return conversion.datetimes(values)
        case ColumnType.JSON:
            return conversion.objects(values)


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
