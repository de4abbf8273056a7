"""A Parquet file as a body."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.arrow.budget import Budget
from loaders.arrow.tables import arrays_of
from loaders.errors import BadInput
from loaders.payload import Arrays

_BATCH_ROWS = 64 * 1024


def read_parquet(body: bytes, bytes_max: int) -> Arrays:
    """The table in *body*, without what pandas kept as an index.

    Raises:
        BadInput: if it is no Parquet file, is encrypted, or has a column that no model takes.
        DecodedTooLarge: if its columns are over *bytes_max*.
        MemoryError: if its pages are more than there is memory for.
    """
    try:
        # Strings stay in dictionaries: a long one that each row repeats would take its length times the rows.
        schema = pq.read_schema(pa.BufferReader(body))
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=_text_columns(schema))
        return arrays_of(file.schema_arrow, _batches(file), Budget(bytes_max))
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"The body is no Parquet file: {_first_line(error)}.") from error


def _text_columns(schema: pa.Schema) -> list[str]:
    wanted = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in wanted)]


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    return file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
