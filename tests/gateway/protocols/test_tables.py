"""Large inputs in columns and arrays: Arrow, Parquet and npy, on the paths of those protocols that name a type."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.e2e

ARROW, PARQUET, NPY = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", "application/x-npy"
PATHS = ["/endpoints/petal/invocations", "/serving-endpoints/petal/invocations"]


def stream(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def npy(array):
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def bodies(served, rows):
    matrix = np.array(rows)
    table = pa.table(dict(zip(served.COLUMNS, matrix.T, strict=True)))
    shuffled = table.select([*reversed(served.COLUMNS)]).append_column("more", pa.array(["x"] * len(rows)))
    structured = np.array([tuple(row) for row in rows], dtype=[(name, "f8") for name in served.COLUMNS])
    yield from [
        (ARROW, stream(table)),
        (ARROW, stream(shuffled, compression="zstd")),
        ("application/x-arrow", stream(pa.Table.from_pandas(table.to_pandas()))),
        (PARQUET, parquet(table)),
        (PARQUET, parquet(shuffled, compression="zstd")),
        (NPY, npy(matrix)),
        (NPY, npy(np.asfortranarray(matrix).astype(">f8"))),
        (NPY, npy(structured)),
    ]


def test_tables_and_arrays_are_answered_as_json_is_to_the_bit(served):
    for row, expected in zip(served.ROWS, served.expected, strict=True):
        for path in PATHS:
            for kind, body in bodies(served, [row]):
                answer = served.post(path, content=body, headers={"Content-Type": kind})
                assert answer.json() == {"predictions": expected}, (path, kind, answer.text)


def test_an_answer_comes_as_accept_asks_for_it(served):
    expected = served.mlflow(served.ROWS)
    for path in PATHS:
        for kind, body in bodies(served, served.ROWS):
            headers = {"Content-Type": kind}
            answer = served.post(path, content=body, headers={**headers, "Accept": ARROW})
            assert answer.headers["Content-Type"] == ARROW
            assert pa.ipc.open_stream(answer.content).read_all().to_pydict() == {"predictions": expected}
            answer = served.post(path, content=body, headers={**headers, "Accept": f"{NPY}, application/json"})
            assert answer.headers["Content-Type"] == NPY
            assert np.load(io.BytesIO(answer.content)).tolist() == expected
            assert answer.headers["X-Titlebout-Version"] == "1"
    served_model = served.post(PATHS[1], content=npy(served.ROWS), headers={"Content-Type": NPY, "Accept": ARROW})
    assert served_model.headers["served-model-name"] == "petal-1"


def test_a_large_table_is_answered_in_one_piece(served):
    matrix = np.random.default_rng(7).uniform(0, 7, (200_000, 4))
    table = pa.table(dict(zip(served.COLUMNS, matrix.T, strict=True)))
    answer = served.post(PATHS[0], content=stream(table), headers={"Content-Type": ARROW, "Accept": ARROW})
    arrow = pa.ipc.open_stream(answer.content).read_all()["predictions"].to_numpy()
    answer = served.post(PATHS[0], content=npy(matrix), headers={"Content-Type": NPY, "Accept": NPY})
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), arrow)
    assert len(arrow) == 200_000


def test_what_is_no_such_body_is_refused(served):
    large = pa.table({"a": np.zeros(40_000_000)})
    matrix = npy(np.zeros((1, 4)))
    for kind, body, status, words in [
        (ARROW, b"nonsense", 400, "Arrow"),
        (ARROW, stream(pa.table({"a": [1.0]})), 400, "missing inputs"),
        (ARROW, stream(large, compression="zstd"), 413, "fewer rows"),
        (PARQUET, b"PAR1" * 10, 400, "Parquet"),
        (PARQUET, parquet(large, compression="zstd"), 413, "fewer rows"),
        (NPY, matrix[:-1], 400, "npy"),
        (NPY, npy(np.zeros((1, 3))), 400, "4"),
        (NPY, npy(np.array([["a"] * 4])), 400, "number"),
        (NPY, matrix.replace(b"(1, 4), ", b"(9999999, 99999), ")[: len(matrix)], 413, "fewer rows"),
    ]:
        answer = served.post(PATHS[0], content=body, headers={"Content-Type": kind})
        assert answer.status_code == status, answer.text
        assert words in answer.json()["message"], answer.text


def test_no_worker_imports_what_reads_tables(served):
    body = stream(pa.table({name: [1.0] for name in served.COLUMNS}))
    with ThreadPoolExecutor(8) as threads:
        asked = [
            threads.submit(served.post, PATHS[0], content=body, headers={"Content-Type": ARROW}) for _ in range(20)
        ]
    assert {answer.result().status_code for answer in asked} == {200}
    [port] = {int(served.url.rsplit(":", 1)[1])}
    supervisor = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.laddr.port == port and connection.pid
    )
    family = [psutil.Process(supervisor), *psutil.Process(supervisor).children(recursive=True)]
    mapped = {process.pid: Path(f"/proc/{process.pid}/maps").read_text() for process in family}
    of_codec = [process.pid for process in family if "codec_process" in " ".join(process.cmdline())]
    assert of_codec
    assert [pid for pid, maps in mapped.items() if "pyarrow" in maps] == of_codec
    workers = [process.pid for process in family if "gateway.worker" in " ".join(process.cmdline())]
    assert workers
    assert not any("pandas" in mapped[pid] for pid in workers)
