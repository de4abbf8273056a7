"""What a load test is given to send."""

import io
import json

import pytest

from gateway.cli import load_target
from gateway.cli.client import Client
from tracking.errors import InvalidParameter


@pytest.mark.parametrize(
    ("content", "bodies"),
    [
        pytest.param(b'{"inputs": [[1]]}', [{"inputs": [[1]]}], id="one"),
        pytest.param(b'{\n  "inputs":\n  [[1]]\n}\n', [{"inputs": [[1]]}], id="one over several lines"),
        pytest.param(b'{"inputs": [[1]]}\n\n{"inputs": [[2]]}\n', [{"inputs": [[1]]}, {"inputs": [[2]]}], id="lines"),
    ],
)
def test_bodies_are_read_as_people_write_them(content, bodies):
    assert [json.loads(body) for body in load_target._read_bodies(io.BytesIO(content))] == bodies


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"", "found 0", id="nothing"),
        pytest.param(b'{"inputs": 1}\n[1]\n', "line 2", id="a line that is no object"),
        pytest.param(b'{"inputs": 1}\n{"inputs"', "line 2", id="a line that is cut off"),
        pytest.param(b"\xff\xfe", "line 1", id="no text"),
        pytest.param(b" " * (load_target._INPUT_BYTES_MAX + 1), "16 MiB", id="too much"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_line(content, what):
    with pytest.raises(InvalidParameter, match=what):
        load_target._read_bodies(io.BytesIO(content))


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_TOKEN": "secret"}, "Bearer secret"),
        ({"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "secret"}, "Basic YW5uOnNlY3JldA=="),
    ],
)
def test_the_load_signs_in_as_the_command_line_does(environment, header):
    assert Client("http://127.0.0.1:1", environment).authorization == header
