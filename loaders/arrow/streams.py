"""An Arrow IPC stream as a body, in both directions."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from loaders.arrow.budget import Budget
from loaders.arrow.columns import column_of
from loaders.arrow.tables import arrays_of
from loaders.errors import BadInput
from loaders.payload import Arrays


def read_stream(body: bytes, bytes_max: int) -> Arrays:
    """The table in *body*, views of it where its columns are plain numbers.

    Raises:
        BadInput: if it is no stream, or has a column that no model takes.
        DecodedTooLarge: if its columns are over *bytes_max*.
        MemoryError: if its compressed buffers are more than there is memory for.
    """
    try:
        with pa.ipc.open_stream(body) as reader:
            return arrays_of(reader.schema, reader, Budget(bytes_max))
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"The body is no Arrow IPC stream: {_first_line(error)}.") from error


def write_stream(columns: Mapping[str, np.ndarray]) -> bytes:
    """A stream of one batch with these columns.

    Raises:
        BadInput: for values that no column can hold, and columns of several lengths.
    """
    if len({len(values) for values in columns.values()}) > 1:
        raise BadInput("The answer has columns of several lengths, and a table has one; ask for JSON.")
    batch = pa.RecordBatch.from_arrays([column_of(values) for values in columns.values()], names=list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
