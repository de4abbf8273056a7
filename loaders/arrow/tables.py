"""Batches of one schema into the columns of a table."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from loaders.arrow.budget import Budget
from loaders.arrow.columns import values_of
from loaders.base import Form
from loaders.errors import BadInput
from loaders.payload import Arrays


def arrays_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch], budget: Budget) -> Arrays:
    """All *batches*, one after the other, without what pandas kept as an index.

    Raises:
        BadInput: for columns of one name, or of types that no model takes.
        DecodedTooLarge: once they are over the *budget*.
        pyarrow.ArrowException: if a batch isn't what its schema says.
    """
    if len(set(schema.names)) != len(schema.names):
        raise BadInput("Two columns have the same name; each must have a name of its own.")
    index = _index_columns(schema)
    names = [name for name in schema.names if name not in index]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in batches:
        # In full, because columns are read by their offsets and lengths.
        batch.validate(full=True)
        for name in names:
            parts[name].append(values_of(name, batch.column(name), budget))
    if not names:
        raise BadInput("The table has no columns.")
    return Arrays({name: _joined(arrays) for name, arrays in parts.items()}, Form.TABLE)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if not parts:
        return np.empty(0)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _index_columns(schema: pa.Schema) -> set[str]:
    """Columns that a data frame's index was written as."""
    try:
        written = (schema.pandas_metadata or {}).get("index_columns", [])
    except (ValueError, AttributeError, RecursionError):
        return set()
    return {name for name in written if isinstance(name, str)} if isinstance(written, list) else set()
