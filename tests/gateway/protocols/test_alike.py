"""One row, in each form that each of the five protocols has for it: the same numbers come back, to the last bit."""

import io
import struct

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.gateway.test_open_inference import binary_body

pytestmark = pytest.mark.e2e

# With all digits that a double has.
ROW = np.random.default_rng(4).normal(3, 2, 4).tolist()
SAGEMAKER = {"X-Amzn-SageMaker-Inference-Id": "order-17"}


def written(write):
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def stream(table, sink):
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def forms(columns):
    """(media type, body) of `ROW` in each form of those protocols that let callers choose one."""
    record = dict(zip(columns, ROW, strict=True))
    table = pa.table({name: [value] for name, value in record.items()})
    for document in (
        {"inputs": [ROW]},
        {"instances": [ROW]},
        {"inputs": {name: [value] for name, value in record.items()}},
        {"dataframe_records": [record]},
        {"dataframe_split": {"columns": columns, "data": [ROW]}},
    ):
        yield "application/json", httpx.Request("POST", "http://any", json=document).content
    line = ",".join(map(repr, ROW))
    yield "text/csv", f"{','.join(columns)}\n{line}\n".encode()
    yield "text/csv; header=absent", f"{line}\n".encode()
    yield "application/vnd.apache.arrow.stream", written(lambda sink: stream(table, sink))
    yield "application/vnd.apache.parquet", written(lambda sink: pq.write_table(table, sink))
    yield "application/x-npy", written(lambda sink: np.save(sink, np.array([ROW])))


def answers(served):
    """(what was asked, the one number of the answer)."""
    for path, headers in [
        ("/endpoints/petal/invocations", {}),
        ("/endpoints/petal/invocations", SAGEMAKER),
        ("/serving-endpoints/petal/invocations", {}),
    ]:
        for place, (kind, body) in enumerate(forms(served.COLUMNS)):
            answer = served.post(path, content=body, headers={"Content-Type": kind, **headers})
            assert answer.is_success, answer.text
            yield (path, headers, kind, place), answer.json()["predictions"]
    for document in ({"instances": [ROW]}, {"instances": [dict(zip(served.COLUMNS, ROW, strict=True))]}):
        yield "V1 rows", served.post("/v1/models/petal:predict", json=document).json()["predictions"]
    yield "V1 columns", served.post("/v1/models/petal:predict", json={"inputs": [ROW]}).json()["outputs"]
    matrix = {"name": "input-0", "shape": [1, 4], "datatype": "FP64"}
    asked = {"inputs": [{**matrix, "data": [ROW]}]}
    (output,) = served.post("/v2/models/petal/infer", json=asked).json()["outputs"]
    yield "V2 JSON", output["data"]
    body, length = binary_body(
        ("input-0", "FP64", [1, 4], np.array([ROW]).tobytes()), parameters={"binary_data_output": True}
    )
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = served.post("/v2/models/petal/infer", content=body, headers=headers)
    head = int(answer.headers["Inference-Header-Content-Length"])
    yield "V2 binary", list(struct.unpack("<d", answer.content[head:]))


def test_one_row_is_answered_by_the_same_bits_whatever_protocol_and_form_it_comes_in(served):
    expected = served.mlflow([ROW])
    given = list(answers(served))
    assert len(given) == 3 * 10 + 5
    assert [(asked, answer) for asked, answer in given if answer != expected] == []
    for kind, read in [
        ("application/x-npy", lambda content: np.load(io.BytesIO(content)).tolist()),
        ("application/vnd.apache.arrow.stream", lambda content: pa.ipc.open_stream(content).read_all()[0].to_pylist()),
    ]:
        answer = served.post("/endpoints/petal/invocations", json={"inputs": [ROW]}, headers={"Accept": kind})
        assert read(answer.content) == expected
