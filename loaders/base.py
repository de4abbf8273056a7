"""What crosses the door of a loaded model: batches in, answers out. Imports numpy and nothing heavier.

Arrays hold numbers and booleans as such, times as ``datetime64``, strings and bytes as ``object`` arrays whose
missing entries are ``None``; a missing number is NaN, a missing time NaT. The first axis is always rows.

Columns of MLflow's array, object, map and any types, and lists of mixed scalars sent to a model without signature,
are ``object`` arrays too, of JSON values as they came. They reach only models that take Python objects.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import numpy as np

Columns = dict[str, np.ndarray]


class Form(StrEnum):
    """How a batch was meant by its sender, and so what a model's code expects to receive."""

    TABLE = "table"
    """Named columns, each of shape (rows,): a data frame."""
    TENSOR = "tensor"
    """One unnamed array of shape (rows, ...), under the key ``""``."""
    TENSORS = "tensors"
    """Named arrays, each of shape (rows, ...)."""


class Batch(msgspec.Struct, frozen=True):
    """Rows for a model, or its answer for them."""

    form: Form
    columns: Columns

    @property
    def rows(self) -> int:
        # A loop, because a generator costs three times as much, and this is asked several times for each prediction.
        for column in self.columns.values():
            return len(column)
        return 0


class DoubleRow(msgspec.Struct, frozen=True):
    """One row of a TABLE of doubles, not yet an array.

    The common request. Arrays of one value each cost more to make than all else that is done with it, and a batch of
    such rows is one array.
    """

    names: tuple[str, ...]
    """The same object for all rows of one signature."""
    values: list[float | None]
    """A missing one is None. Each becomes a double by numpy's own rules, without loss."""

    @property
    def rows(self) -> int:
        return 1


Rows = Batch | DoubleRow


def joined_rows(rows: Sequence[DoubleRow]) -> Batch:
    """One batch of all *rows*, in order. All must have the same names."""
    columns = np.array([row.values for row in rows], dtype=np.float64).T.copy()
    return Batch(Form.TABLE, dict(zip(rows[0].names, columns, strict=True)))


class JsonAnswer(msgspec.Struct, frozen=True):
    """An answer with no array form (nested dicts of a custom model), already encoded as one JSON value."""

    text: bytes


Answer = Batch | JsonAnswer


class LoadedModel(Protocol):
    """A model that is in memory and can be called."""

    flavor: str
    """The flavor that loaded it, as in MLmodel: ``sklearn``, ``pytorch``, ``transformers``, ``python_function``."""
    predictor: str
    """Which code answers, for `status` and the metrics: ``sklearn``, ``torch.export``, …"""
    batchable: bool
    """Whether rows of different requests may share one call."""
    warnings: tuple[str, ...]
    """What a person should know and nothing stops for: pinned libraries that aren't the installed ones, …"""

    def predict(self, batch: Batch, params: Mapping[str, Any]) -> Answer:
        """Answer *batch*, row for row.

        Raises:
            loaders.errors.BadInput: if the model's own code finds the input unusable, as far as that can be told.
        """
        ...
