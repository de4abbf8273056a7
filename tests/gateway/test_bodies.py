"""Translation at the scoring edge: JSON in, predictions out."""

import msgspec
import numpy as np
import pytest

from gateway.api.scoring.bodies import decode_json, encode_predictions
from gateway.api.scoring.media_types import MediaType, UnsupportedMediaType, accepted, content_type
from loaders.base import Batch, Form, JsonAnswer
from tracking.errors import BadRequest, ServingError


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("answer", "predictions"),
    [
        pytest.param(Batch(Form.TENSOR, {"": np.array([1, 2])}), [1, 2], id="labels"),
        pytest.param(Batch(Form.TENSOR, {"": np.array([[0.5, np.nan]])}), [[0.5, None]], id="a missing number is null"),
        pytest.param(Batch(Form.TENSOR, {"": objects("a", None)}), ["a", None], id="strings"),
        pytest.param(Batch(Form.TENSOR, {"": objects(b"\x00\xff")}), ["AP8="], id="bytes are base64"),
        pytest.param(
            Batch(Form.TENSOR, {"": np.array(["2026-01-02", "NaT"], dtype="datetime64[s]")}),
            ["2026-01-02T00:00:00", None],
            id="times are ISO 8601",
        ),
        pytest.param(
            Batch(Form.TABLE, {"label": objects("x", "y"), "score": np.array([0.5, 1.0])}),
            [{"label": "x", "score": 0.5}, {"label": "y", "score": 1.0}],
            id="a table is a list of records",
        ),
        pytest.param(
            Batch(Form.TENSORS, {"a": np.array([1]), "b": np.array([[True]])}), {"a": [1], "b": [[True]]}, id="tensors"
        ),
        pytest.param(JsonAnswer(b'{"deep":[1]}'), {"deep": [1]}, id="what has no array form"),
    ],
)
def test_an_answer_becomes_json(answer, predictions):
    assert msgspec.json.decode(encode_predictions(answer)) == {"predictions": predictions}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"inputs": [NaN]}', b"[" * 50_000, b'{"inputs": [[1]]', b"nonsense"]
)
def test_what_is_no_json_is_refused_as_such(body):
    with pytest.raises(BadRequest):
        decode_json(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b"{}", b'{"inputs": [1], "instances": [1]}', b'{"instances": 3}'])
def test_json_that_is_none_of_the_four_forms_is_refused(body):
    with pytest.raises(ServingError, match=r"inputs|instances"):
        decode_json(body)


def test_content_types_are_read_with_their_parameters():
    assert content_type({b"content-type": b"Text/CSV; Header=absent; charset=UTF-8"}) == (
        MediaType.CSV,
        {"header": "absent"},
    )
    assert content_type({b"content-type": b"application/json"}) == (MediaType.JSON, {})
    for wrong in (b"application/json; charset=latin-1", b"application/json; q=1", b"", b"image/png"):
        with pytest.raises(UnsupportedMediaType):
            content_type({b"content-type": wrong})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, MediaType.JSON),
        (b"*/*", MediaType.JSON),
        (b"text/html, image/png", MediaType.JSON),
        (b"text/csv", MediaType.JSON),
        (b"application/vnd.apache.arrow.stream", MediaType.ARROW),
        (b"text/html, Application/X-NPY;q=0.9, application/json", MediaType.NPY),
    ],
)
def test_an_answer_is_of_the_first_accepted_type_that_there_is(value, kind):
    assert accepted({} if value is None else {b"accept": value}) is kind
