"""Looks up single rows in files of kept predictions, for the supervisor: one question on stdin, one answer on stdout.

A process of its own for the reason that `gateway.prediction_writer` is one: pyarrow.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gateway.comparison.single_predictions import Value
from gateway.feedback.prediction_ids import can_be_carried
from gateway.kept_predictions.looking_up import Asked, Found, Predicted, Question
from gateway.kept_predictions.tables import FORMAT

_COLUMNS = ("prediction_id", "row", "prediction", "label", "value", "numbers")

Row = Mapping[str, Any]


def answer(question: Question) -> Found:
    """What the files of *question* have of what it asks."""
    by_id: dict[str, list[Asked]] = {}
    for one in question.asked:
        by_id.setdefault(one.prediction_id, []).append(one)
    predicted: list[Predicted] = []
    unreadable = []
    for file in question.files:
        try:
            rows = _read(file, question, list(by_id))
        except (pa.ArrowException, OSError):
            unreadable.append(file)
        else:
            predicted += _predicted(rows, by_id)
    return Found(predicted, unreadable)


def _read(file: str, question: Question, ids: Sequence[str]) -> Sequence[Row]:
    if (pq.read_schema(file).metadata or {}).get(b"titlebout.predictions") != FORMAT.encode():
        raise pa.ArrowInvalid("not one of ours, or of a later release")
    # By their time, too, by which most of a file needn't be read: it is in order of it.
    began, ended = (datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in (question.since_ms, question.until_ms))
    wanted = pc.field("prediction_id").isin(ids) & (pc.field("at") >= began) & (pc.field("at") <= ended)
    rows: list[Row] = pq.read_table(file, columns=list(_COLUMNS), filters=wanted, partitioning=None).to_pylist()
    return rows


def _predicted(rows: Iterable[Row], by_id: Mapping[str, Sequence[Asked]]) -> Iterator[Predicted]:
    answers: dict[str, dict[int, Row]] = {}
    for row in rows:
        # What isn't row for row is kept whole, as one that has no number.
        answers.setdefault(row["prediction_id"], {})[row["row"] or 0] = row
    for prediction_id, by_row in answers.items():
        for one in by_id[prediction_id]:
            row = by_row.get(one.row or 0, {})
            yield Predicted(one, len(by_row), _value(row), row.get("numbers"))


def _value(row: Row) -> Value | None:
    """The one class or number that a row says, as what it was: the column of classes has only texts."""
    value = row.get("value")
    if row.get("label") is not None:
        value = msgspec.json.decode(row["prediction"])
        if isinstance(value, dict):
            [value] = value.values()
        elif isinstance(value, list):
            [value] = value
    return value if isinstance(value, bool | int | float | str) and can_be_carried(value) else None


def main() -> None:
    """Serve ``python -m gateway.prediction_reader``."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(answer(question)))


if __name__ == "__main__":
    main()
