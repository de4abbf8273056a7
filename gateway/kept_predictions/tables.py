"""Kept predictions as a table, a row for each row that was predicted. docs/prediction-log.md describes the columns.

Imports pyarrow, and so is imported by the process that writes the files and by nothing else.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from gateway.kept_predictions.records import KeptPrediction, unpack
from loaders.base import Answer, Batch, Form, JsonAnswer

FORMAT = "1"
"""Of the columns: one that is added doesn't change it, one that comes to mean something else does."""

SCHEMA = pa.schema(
    [
        pa.field("prediction_id", pa.string(), nullable=False),
        pa.field("row", pa.int32()),
        pa.field("at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("arm", pa.string()),
        pa.field("period", pa.int32(), nullable=False),
        pa.field("bucket", pa.int32()),
        pa.field("prediction", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("numbers", pa.list_(pa.float64())),
        pa.field("input", pa.string()),
    ],
    metadata={"titlebout.predictions": FORMAT},
)

_UNSAYABLE = (ValueError, TypeError, LookupError, RecursionError, msgspec.MsgspecError)

WritePlainly = Callable[[Batch], Any]
"""An answer as MLflow's protocol writes it: a list of its rows, or an object of named tensors."""


def table_of(kept: Iterable[KeptPrediction], write: WritePlainly) -> pa.Table:
    """The rows of all *kept* predictions, in order."""
    return pa.Table.from_pylist([row for one in kept for row in _rows_of(one, write)], schema=SCHEMA)


def _rows_of(kept: KeptPrediction, write: WritePlainly) -> Iterator[dict[str, Any]]:
    try:
        said = list(_said(kept, write))
    except _UNSAYABLE:
        # It mustn't cost the others of its file their place.
        said = [{"row": None, "prediction": "null"}]
    whose = {
        "prediction_id": kept.prediction_id,
        "at": kept.at_ms,
        "endpoint": kept.endpoint,
        "model": kept.model,
        "version": kept.version,
        "arm": kept.arm or None,
        "period": kept.period,
        "bucket": kept.bucket,
    }
    yield from ({**whose, **one} for one in said)


def _said(kept: KeptPrediction, write: WritePlainly) -> Iterator[dict[str, Any]]:
    predicted = _split(unpack(kept.answer), kept.rows, write)
    asked = None if kept.input is None else _split(unpack(kept.input), kept.rows, write)
    is_by_row = len(predicted) == kept.rows
    is_asked_by_row = is_by_row and asked is not None and len(asked) == kept.rows
    for place, row in enumerate(predicted):
        yield {
            "row": place if is_by_row else None,
            "prediction": _json(row),
            **_typed(row),
            "input": None if asked is None else _json(asked[place] if is_asked_by_row else asked),
        }


def _split(values: Answer, rows: int, write: WritePlainly) -> Sequence[Any]:
    """*values* row by row; as one, where they aren't one for each of *rows*."""
    if isinstance(values, JsonAnswer):
        whole = _decoded(values.text)
        by_row = whole if isinstance(whole, list) else [whole]
    else:
        whole = write(values)
        by_row = _transposed(whole) if values.form is Form.TENSORS else whole
    return by_row if len(by_row) == rows else [whole]


def _transposed(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        return []
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _typed(row: Any) -> dict[str, Any]:
    """What a row says in the column that has its type, where it is one class, one number or several numbers."""
    values = list(row.values()) if isinstance(row, dict) else row if isinstance(row, list) else [row]
    match values:
        case [float(value)]:
            return {"value": value}
        case [bool() | int() | str() as value]:
            return {"label": str(value)}
        case [float(), *_] if all(isinstance(value, float) for value in values):
            return {"numbers": values}
    return {}


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # NaN, as Python's own encoder writes it, and with it some models.
        return json.loads(text)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
