"""Answers as JSON values: a missing number is null, a time is ISO 8601, bytes are base64."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from loaders.base import Batch, Form
from loaders.casts import iso_texts


def in_base64(value: bytes) -> Any:
    return base64.b64encode(value).decode()


def listed(values: np.ndarray, write_bytes: Callable[[bytes], Any] = in_base64) -> Any:
    """*values* as nested lists of what JSON has."""
    if values.dtype.kind == "M":
        return iso_texts(values).tolist()
    if values.dtype.kind == "O":
        return _written(values.tolist(), write_bytes)
    return values.tolist()


def plain(answer: Batch) -> Any:
    """As MLflow writes it: a table is a list of records, named tensors are an object."""
    match answer.form:
        case Form.TENSOR:
            return listed(answer.columns[""])
        case Form.TENSORS:
            return {name: listed(values) for name, values in answer.columns.items()}
        case Form.TABLE:
            return records({name: listed(values) for name, values in answer.columns.items()})


def row_of(answer: Batch, row: int) -> Any:
    """One row of what `plain` writes."""
    one = Batch(answer.form, {name: values[row : row + 1] for name, values in answer.columns.items()})
    written = plain(one)
    return {name: values[0] for name, values in written.items()} if answer.form is Form.TENSORS else written[0]


def records(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows out of columns of equal length."""
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _written(values: list[Any], write_bytes: Callable[[bytes], Any]) -> list[Any]:
    return [
        write_bytes(v) if isinstance(v, bytes) else _written(v, write_bytes) if isinstance(v, list) else v
        for v in values
    ]
