"""Texts, times, bytes and missing values on their way through a running server, to a model and back."""

import base64
import io
import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from tests.gateway.test_serving import ask, wait_until_served
from tests.training import mlflow, register_function, set_alias

pytestmark = pytest.mark.e2e

ARROW = "application/vnd.apache.arrow.stream"
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec("string", "text"),
            ColSpec("datetime", "time"),
            ColSpec("binary", "bytes"),
            ColSpec("boolean", "flag"),
            ColSpec("double", "number", required=False),
            ColSpec("string", "remark", required=False),
        ]
    )
)
RECORDS = [
    {
        "text": "né 日本 🦋",
        "time": "2026-11-23T12:30:00.123456",
        "bytes": "AP+A",
        "flag": True,
        "number": 0.1,
        "remark": "x",
    },
    {"text": "", "time": "1969-12-31T23:59:59", "bytes": "", "flag": False, "number": None, "remark": None},
]


def mirror():
    """A model that gives back the frame that it gets. A class of a function, so that it is pickled by value."""

    class Mirror(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            assert [type(value).__name__ for value in model_input["bytes"]] == ["bytes"] * len(model_input)
            assert str(model_input["time"].dtype).startswith("datetime64")
            return model_input

    return Mirror()


@pytest.fixture
def url(serve):
    server = serve()
    register_function(server.url, "mirror", mirror(), signature=SIGNATURE)
    set_alias(server.url, "mirror", "champion", 1)
    wait_until_served(server.url, "mirror", champion=1)
    return server.url


def comparable(record):
    """Times come with all the digits that their type has, and a missing double is a NaN where there is such a thing."""
    number = record["number"]
    return {
        **record,
        "time": np.datetime64(record["time"], "ns"),
        "number": None if number is None or np.isnan(number) else number,
    }


def stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_texts_times_bytes_and_missing_values_come_back_as_they_went(url):
    answer = ask(url, "mirror", json.dumps({"dataframe_records": RECORDS}).encode())
    assert answer.is_success, answer.text
    expected = [comparable(record) for record in RECORDS]
    assert [comparable(record) for record in answer.json()["predictions"]] == expected

    def in_arrow(record):
        taken, data = datetime.fromisoformat(record["time"]), base64.b64decode(record["bytes"])
        return {**record, "time": taken, "bytes": data}

    records = [in_arrow(record) for record in RECORDS]
    answer = ask(url, "mirror", stream(pa.Table.from_pylist(records)), Content_Type=ARROW, Accept=ARROW)
    assert answer.is_success, answer.text
    answered = pa.ipc.open_stream(answer.content).read_all().to_pylist()
    assert [comparable(record) for record in answered] == [comparable(record) for record in records]
