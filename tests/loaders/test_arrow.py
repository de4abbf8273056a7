"""Arrow's IPC streams and Parquet files as bodies."""

import io
import subprocess
import sys
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.arrow.parquet import read_parquet
from loaders.arrow.streams import read_stream, write_stream
from loaders.base import Form
from loaders.errors import BadInput, DecodedTooLarge

BYTES_MAX = 10_000_000

COLUMNS = {
    "doubles": pa.array([0.1, None, 3.0]),
    "floats": pa.array([0.5, 1.5, None], pa.float32()),
    "halves": pa.array(np.array([0.5, 1.5, 2.5], np.float16)),
    "longs": pa.array([1, -2, 3]),
    "bytes": pa.array([1, 2, 255], pa.uint8()),
    "missing longs": pa.array([1, None, 3]),
    "booleans": pa.array([True, False, True]),
    "missing booleans": pa.array([True, None, False]),
    "strings": pa.array(["a", None, "日本"]),
    "large strings": pa.array(["a", "b", ""], pa.large_string()),
    "string views": pa.array(["a", None, "longer than twelve bytes"], pa.string_view()),
    "binaries": pa.array([b"\x00", b"", None]),
    "words": pa.array(["x", None, "x"]).dictionary_encode(),
    "days": pa.array([date(2026, 1, 2), None, date(1970, 1, 1)]),
    "times": pa.array([datetime(2026, 1, 2, 3), None, datetime(1969, 1, 1)], pa.timestamp("us")),
    "nothing": pa.nulls(3),
    "pairs": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float64(), 2)),
    "lists": pa.array([[1, 2], [], [None, 3]], pa.list_(pa.int64())),
}
EXPECTED = {
    "doubles": [0.1, None, 3.0],
    "floats": [0.5, 1.5, None],
    "halves": [0.5, 1.5, 2.5],
    "longs": [1, -2, 3],
    "bytes": [1, 2, 255],
    "missing longs": [1, None, 3],
    "booleans": [True, False, True],
    "missing booleans": [True, None, False],
    "strings": ["a", None, "日本"],
    "large strings": ["a", "b", ""],
    "string views": ["a", None, "longer than twelve bytes"],
    "binaries": [b"\x00", b"", None],
    "words": ["x", None, "x"],
    "days": [datetime(2026, 1, 2), None, datetime(1970, 1, 1)],
    "times": [datetime(2026, 1, 2, 3), None, datetime(1969, 1, 1)],
    "nothing": [None, None, None],
    "pairs": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    "lists": [[1, 2], [], [None, 3]],
}


def stream(table, chunk_rows=None, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=chunk_rows)
    return sink.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def as_python(array):
    """What is missing as None, whatever the array has for it."""
    values = array.astype("datetime64[us]" if array.dtype.kind == "M" else array.dtype).tolist()
    return [None if value is None or value != value else value for value in values]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_a_stream_is_an_array_in_whatever_batches_it_comes(name):
    longer = pa.concat_arrays([COLUMNS[name], COLUMNS[name]]) if name != "words" else COLUMNS[name]
    data = read_stream(stream(pa.table({"it": longer}), chunk_rows=2), BYTES_MAX)
    assert data.form is Form.TABLE
    assert as_python(data.by_name["it"]) == EXPECTED[name] * (len(longer) // 3)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_slice_is_read_from_where_it_begins(name):
    data = read_stream(stream(pa.table({"it": COLUMNS[name]}).slice(1)), BYTES_MAX)
    assert as_python(data.by_name["it"]) == EXPECTED[name][1:]


# Parquet has no fixed lists of its own, and views come back as strings.
@pytest.mark.parametrize("name", sorted(set(COLUMNS) - {"string views"}))
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_column_of_a_parquet_file_is_an_array(name, compression):
    data = read_parquet(parquet(pa.table({"it": COLUMNS[name]}), compression=compression), BYTES_MAX)
    assert as_python(data.by_name["it"]) == EXPECTED[name]


def test_numbers_are_views_of_the_body():
    data = read_stream(stream(pa.table({"a": [0.1, 0.2]})), BYTES_MAX)
    assert data.by_name["a"].dtype == np.float64
    assert not data.by_name["a"].flags.owndata


def test_the_index_of_a_data_frame_is_no_column():
    import pandas as pd

    table = pa.Table.from_pandas(pd.DataFrame({"a": [1, 2]}, index=pd.Index([7, 8], name="key")))
    for data in (read_stream(stream(table), BYTES_MAX), read_parquet(parquet(table), BYTES_MAX)):
        assert list(data.by_name) == ["a"]


@pytest.mark.parametrize("read", [read_stream, read_parquet])
def test_a_table_without_rows_has_its_columns(read):
    table = pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.string())})
    data = read((stream if read is read_stream else parquet)(table), BYTES_MAX)
    assert {name: len(array) for name, array in data.by_name.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        pytest.param(pa.table([[1], [2]], names=["a", "a"]), "same name", id="one name twice"),
        pytest.param(pa.table({"a": pa.array([{"b": 1}])}), "'a'", id="structs"),
        pytest.param(pa.table({"a": pa.array([timedelta(1)])}), "duration", id="durations"),
        pytest.param(pa.table({}), "no columns", id="no columns"),
    ],
)
def test_what_no_model_takes_is_refused_by_name(table, words):
    with pytest.raises(BadInput, match=words):
        read_stream(stream(table), BYTES_MAX)


@pytest.mark.parametrize("read", [read_stream, read_parquet])
@pytest.mark.parametrize("body", [b"", b"nonsense", b"PAR1PAR1", b"\xff\xff\xff\xff\x00\x00\x00\x00" * 2])
def test_what_is_no_table_is_refused(read, body):
    with pytest.raises(BadInput):
        read(body, BYTES_MAX)


ZEROS = pa.table({"a": np.zeros(2_000_000)})
ONE_LONG_TEXT = pa.table({"a": pa.array(["x" * 100_000] * 1_000).dictionary_encode()})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda: stream(ZEROS, compression="zstd"), id="compressed"),
        pytest.param(lambda: stream(ONE_LONG_TEXT), id="a text that each row repeats"),
        pytest.param(lambda: stream(pa.table({"a": pa.nulls(10_000_000)})), id="nothing, many times"),
    ],
)
def test_a_small_stream_of_a_large_table_is_refused(body):
    with pytest.raises(DecodedTooLarge):
        read_stream(body(), BYTES_MAX)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda: parquet(ZEROS, compression="zstd", use_dictionary=False), id="compressed"),
        pytest.param(lambda: parquet(ZEROS), id="by a dictionary of one word"),
        pytest.param(lambda: parquet(ONE_LONG_TEXT), id="a text that each row repeats"),
    ],
)
def test_a_small_parquet_file_of_a_large_table_is_refused(body):
    with pytest.raises(DecodedTooLarge):
        read_parquet(body(), BYTES_MAX)


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.1, np.nan]),
        np.array([1, 2], np.int8),
        np.array([True, False]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.array(["a", None, "日本"], dtype=object),
        np.array([b"a", None], dtype=object),
        np.array(["2026-01-02", "NaT"], dtype="datetime64[s]"),
        np.array(["2026-01-02", "4000-01-01"], dtype="datetime64[D]"),
    ],
)
def test_an_answer_is_written_as_arrow_reads_it(values):
    table = pa.ipc.open_stream(write_stream({"it": values})).read_all()
    table.validate(full=True)
    back = read_stream(write_stream({"it": values}), BYTES_MAX).by_name["it"]
    assert as_python(back.reshape(-1)) == as_python(values.reshape(-1))
    assert back.shape == values.shape
    if values.dtype.kind == "O":
        assert table["it"].to_pylist() == values.tolist()


def test_an_answer_that_no_column_holds_is_refused():
    with pytest.raises(BadInput, match="JSON"):
        write_stream({"it": np.array([{"a": 1}, None], dtype=object)})


def test_reading_and_writing_imports_no_pandas():
    code = """if True:
        import io, sys
        import numpy as np
        from loaders.arrow.parquet import read_parquet
        from loaders.arrow.streams import read_stream, write_stream
        body = write_stream({"a": np.array([0.1]), "b": np.array(["x"], dtype=object), "c": np.array([True])})
        read_stream(body, 1000)
        read_parquet(bytes.fromhex(sys.argv[1]), 1000)
        sys.exit("pandas" in sys.modules)
    """
    body = parquet(pa.table({"a": [0.1], "b": ["x"]}))
    assert subprocess.run([sys.executable, "-c", code, body.hex()], check=False).returncode == 0
