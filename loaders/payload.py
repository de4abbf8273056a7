"""Rows as a caller sent them, before the model's signature has seen them.

Two shapes cover MLflow's scoring protocol: a `Table` has columns, a `Nested` value is lists in lists. Values are
what JSON gives: ``None``, ``bool``, ``int``, ``float``, ``str``, lists and dicts. Protocols that send bytes and say
of what type they are give `Arrays`, which are never turned into lists.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from loaders.base import Form
from loaders.errors import BadInput, shown

_NAMES_SAID_MAX = 20
DATA_KEYS = ("inputs", "instances", "dataframe_split", "dataframe_records")


class Table(msgspec.Struct, frozen=True):
    """Columns of equal length; without names they are matched by position."""

    names: Sequence[str] | None
    columns: Sequence[Sequence[Any] | np.ndarray]
    from_text: bool = False
    """Every cell is a string or ``None``, as in CSV, so that ``"5.1"`` may become a number."""

    @property
    def rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0


class Nested(msgspec.Struct, frozen=True):
    """The value of ``inputs`` or ``instances``: nested lists, a dict of them by name, or a scalar."""

    value: Any


class Arrays(msgspec.Struct, frozen=True):
    """Arrays by name, or one without, under ``""``; the first axis is rows.

    Strings and bytes are in ``object`` arrays. All may be read-only views of the body they came in, and none is
    ever written to.
    """

    by_name: Mapping[str, np.ndarray]
    form: Form = Form.TENSORS
    """What they are to a model without signature. TENSOR is for one array, whose name then doesn't matter."""
    text_is_bytes: bool = False
    """The protocol knows bytes only, so that what a model without signature takes may as well be text."""


Data = Table | Nested | Arrays


def read_document(document: Any, keys: Sequence[str] = DATA_KEYS) -> tuple[Data, dict[str, Any] | None]:
    """The data and the params of one JSON body of MLflow's scoring protocol; its other keys are ignored.

    *keys* are those of the four data keys that a protocol has.

    Raises:
        BadInput: if there is not exactly one of *keys*, or its value has not the shape it must have.
    """
    if not isinstance(document, dict):
        raise BadInput(f"The body must be an object with one of {', '.join(keys)}, got {shown(document)}.")
    present = [key for key in keys if key in document]
    if len(present) != 1:
        found = " and ".join(present) if present else "none of them"
        raise BadInput(f"The body must have exactly one of {', '.join(keys)}; it has {found}.")
    value = document[present[0]]
    match present[0]:
        case "dataframe_split":
            data: Data = read_split(value)
        case "dataframe_records":
            data = read_records(value, "dataframe_records")
        case "instances" if isinstance(value, list) and value and isinstance(value[0], dict):
            data = Nested(_by_name(read_records(value, "instances")))
        case "instances" if not isinstance(value, list):
            raise BadInput(f"'instances' must be a list with an entry for each row, got {shown(value)}.")
        case _:
            data = Nested(value)
    return data, read_params(document.get("params"))


def check_same_rows(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `BadInput` unless each of *arrays* has rows, and as many as the others."""
    for name, array in arrays.items():
        if not array.ndim:
            raise BadInput(f"Input {name!r}: expected an axis of rows, got a single value.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{length} in {name!r}" for name, length in list(lengths.items())[:_NAMES_SAID_MAX])
        raise BadInput(f"All inputs must have the same number of rows, got {said}.")


def read_params(params: Any) -> dict[str, Any] | None:
    if params is None or isinstance(params, dict):
        return params
    raise BadInput(f"'params' must be an object, got {shown(params)}.")


def read_split(value: Any) -> Table:
    """A table from pandas' ``split`` orientation: ``columns``, ``data`` by rows, and an ``index`` that is ignored."""
    if not isinstance(value, dict) or "data" not in value or value.keys() - {"columns", "data", "index"}:
        raise BadInput(f"'dataframe_split' must be an object of 'columns' and 'data', got {shown(value)}.")
    rows, names = value["data"], value.get("columns")
    if not isinstance(rows, list):
        raise BadInput(f"'dataframe_split.data' must be a list of rows, got {shown(rows)}.")
    if names is None:
        return Table(None, transposed(rows, None, "dataframe_split.data"))
    if not isinstance(names, list) or any(isinstance(name, list | dict) for name in names):
        raise BadInput(f"'dataframe_split.columns' must be a list of names, got {shown(names)}.")
    columns = transposed(rows, len(names), "dataframe_split.data")
    return Table(_unique([name if type(name) is str else str(name) for name in names]), columns)


def read_records(value: Any, field: str) -> Table:
    """A table from a list of objects; a key that a row lacks is null there."""
    if not isinstance(value, list):
        raise BadInput(f"{field!r} must be a list of objects, got {shown(value)}.")
    names: dict[str, None] = {}
    for row, record in enumerate(value):
        if not isinstance(record, dict):
            raise BadInput(f"{field!r} must be a list of objects, row {row} is {shown(record)}.")
        names.update(dict.fromkeys(record))
    return Table(list(names), [[record.get(name) for record in value] for name in names])


def read_csv(text: str, *, header: bool = True) -> Table:
    """A table from CSV; an empty cell is null, and all others are strings that the signature converts."""
    try:
        # A byte order mark is how spreadsheets begin a file, and no part of the first name.
        rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True) if row]
    except csv.Error as error:
        raise BadInput(f"The body isn't CSV: {error}.") from error
    if not rows:
        raise BadInput("The body must be CSV, with a header row unless the type says header=absent; it is empty.")
    names = _unique(rows.pop(0)) if header else None
    columns = transposed(rows, None if names is None else len(names), "CSV")
    return Table(names, [[cell or None for cell in column] for column in columns], from_text=True)


def transposed(rows: Sequence[Any], width: int | None, field: str) -> list[Sequence[Any]]:
    """The columns of *rows*, which must be lists of *width* values each (of the first row's, where it is None)."""
    for index, row in enumerate(rows):
        if type(row) is not list:
            raise BadInput(f"{field!r} must be a list of rows, row {index} is {shown(row)}.")
        if width is None:
            width = len(row)
        if len(row) != width:
            raise BadInput(f"{field!r}: expected {width} values in each row, row {index} has {len(row)}.")
    if not rows:
        return [[] for _ in range(width or 0)]
    return list(zip(*rows, strict=True))


def _by_name(table: Table) -> dict[str, Any]:
    return {name: list(column) for name, column in zip(table.names or (), table.columns, strict=True)}


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"Column {twice!r} is there twice; each column must have a name of its own.")
    return names
