"""Translation at V1's edge: paths, bodies with bytes in them, and answers in rows and columns."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.scoring.v1 import V1Scoring, VerbNotAnswered, _encoded
from gateway.errors import status_of
from loaders.base import Batch, Form, JsonAnswer
from loaders.columns import ColumnSpec, ColumnType
from loaders.signature import Signature, enforce
from tracking.errors import ServingError

DIALECT = V1Scoring()
SIGNATURE = Signature(columns=(ColumnSpec("a", ColumnType.DOUBLE), ColumnSpec("b", ColumnType.BINARY)))


def ask(path="/v1/models/iris:predict", **headers):
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return DIALECT.ask(DIALECT.paths.fullmatch(path), sent)


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("path", "endpoint", "arm", "version"),
    [
        ("iris:predict", "iris", None, None),
        ("iris%3Apredict", "iris", None, None),
        ("iris/versions/3:predict", "iris", None, 3),
        ("iris/labels/a%2Fb:predict", "iris", "a/b", None),
        ("models:%2Firis%40challenger:predict", "models:/iris@challenger", None, None),
        ("a%20b%C3%A4:predict", "a bä", None, None),
    ],
)
def test_a_path_names_an_endpoint_an_arm_or_a_version(path, endpoint, arm, version):
    target = ask(f"/v1/models/{path}").target
    assert (target.endpoint, target.arm, target.version) == (endpoint, arm, version)


def test_headers_name_arm_and_unit_as_everywhere():
    target = ask(x_titlebout_arm="challenger", x_titlebout_unit="user-1").target
    assert (target.arm, target.unit) == ("challenger", "user-1")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/iris", "/v1/models/iris/metadata", "/v1/models/a/b:predict"]
)
def test_other_paths_are_not_predictions(path):
    assert DIALECT.paths.fullmatch(path) is None


def test_other_verbs_are_refused_by_name():
    with pytest.raises(VerbNotAnswered, match="classify"):
        ask("/v1/models/iris:classify")


@pytest.mark.parametrize(
    ("answer", "predictions", "outputs"),
    [
        pytest.param(Batch(Form.TENSOR, {"": np.array([0.5, np.nan])}), [0.5, None], [0.5, None], id="one"),
        pytest.param(Batch(Form.TENSORS, {"a": np.array([[1], [2]])}), [[1], [2]], [[1], [2]], id="one with a name"),
        pytest.param(
            Batch(Form.TENSORS, {"a": np.array([1, 2]), "b": np.array([[1.0], [2.0]])}),
            [{"a": 1, "b": [1.0]}, {"a": 2, "b": [2.0]}],
            {"a": [1, 2], "b": [[1.0], [2.0]]},
            id="several",
        ),
        pytest.param(
            Batch(Form.TENSORS, {"a": np.array([1, 2]), "b": np.array([1])}),
            {"a": [1, 2], "b": [1]},
            {"a": [1, 2], "b": [1]},
            id="several of several lengths",
        ),
        pytest.param(
            Batch(Form.TABLE, {"a": objects("x"), "b": np.array([1])}),
            [{"a": "x", "b": 1}],
            {"a": ["x"], "b": [1]},
            id="a table",
        ),
        pytest.param(
            Batch(Form.TENSOR, {"": objects(b"\x00\xff", None)}),
            [{"b64": "AP8="}, None],
            [{"b64": "AP8="}, None],
            id="bytes",
        ),
        pytest.param(JsonAnswer(b'{"deep":[1]}'), {"deep": [1]}, {"deep": [1]}, id="what has no array form"),
    ],
)
def test_rows_are_predictions_and_columns_are_outputs(answer, predictions, outputs):
    assert msgspec.json.decode(_encoded(answer, in_columns=False)) == {"predictions": predictions}
    assert msgspec.json.decode(_encoded(answer, in_columns=True)) == {"outputs": outputs}


def test_bytes_come_in_objects_of_b64():
    for body in (
        b'{"instances": [{"a": 1, "b": {"b64": "AP8="}}]}',
        b'{"inputs": {"a": [1], "b": [{"b64": "AP8="}]}}',
    ):
        batch, _ = enforce(SIGNATURE, *ask().read(body)())
        assert batch.columns["b"].tolist() == [b"\x00\xff"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["instances", "inputs", "b64", "a", "b", "params"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "params", "signature_name"]), JSON, max_size=3) | JSON)
@settings(max_examples=50, deadline=None)
def test_whatever_comes_is_taken_or_refused_as_the_callers_fault(document):
    body = msgspec.json.encode(document)
    statuses = []
    for signature in (SIGNATURE, None):
        try:
            enforce(signature, *ask().read(body)())
        except ServingError as error:
            statuses.append(status_of(error))
    assert set(statuses) <= {400}
