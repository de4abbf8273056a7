"""The V1 protocol of TensorFlow Serving, which KServe speaks too: `/v1/models/NAME:predict`.

Rows come as ``instances`` and are answered as ``predictions``, columns come as ``inputs`` and are answered as
``outputs`` (tensorflow_serving/g3doc/api_rest.md). What it differs in: a missing number is null, since JSON has no
NaN, and a single name of an answer is left out in both forms.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from gateway.api.scoring.bodies import parse_json
from gateway.api.scoring.json_answers import in_base64, listed, records
from gateway.api.scoring.media_types import MediaType, UnsupportedMediaType, content_type
from gateway.api.scoring.walk import Ask, Dialect, Headers, Reply, header_text, version_number
from gateway.scoring.inference import Prediction, ReadInput, Target
from loaders.base import Answer, Form, JsonAnswer
from loaders.payload import Data, read_document
from tracking.errors import BadRequest, ErrorCode, ServingError

_FORMS = ("instances", "inputs")


class VerbNotAnswered(ServingError):
    code = ErrorCode.NOT_IMPLEMENTED

    def __init__(self, verb: str) -> None:
        super().__init__(f"{verb!r} is not answered here; models are asked by :predict.")


class V1Scoring(Dialect):
    """A label is an arm: what an alias of the model means now."""

    name = "v1"
    roots = (b"v1",)
    paths = re.compile(
        r"/v1/models/(?P<model>[^/]+?)(?:/versions/(?P<version>[^/]+?)|/labels/(?P<label>[^/]+?))?"
        r"(?::|%3[Aa])(?P<verb>[a-z]+)"
    )

    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        if path["verb"] != "predict":
            raise VerbNotAnswered(path["verb"])
        # KServe's client says nothing of the type.
        if headers.get(b"content-type") and content_type(headers)[0] is not MediaType.JSON:
            raise UnsupportedMediaType("The V1 protocol is JSON: expected Content-Type application/json, or none.")
        label = None if path["label"] is None else unquote(path["label"])
        arm = label or header_text(headers, b"x-titlebout-arm")
        unit = header_text(headers, b"x-titlebout-unit")
        return _Predict(Target(unquote(path["model"]), arm, version_number(path["version"]), unit))

    def encode_error(self, _code: str, message: str) -> bytes:
        return encode_v1_error(message)


def encode_v1_error(message: str) -> bytes:
    return msgspec.json.encode({"error": message})


class _Predict(Ask):
    def __init__(self, target: Target) -> None:
        self.target = target
        self._in_columns = False

    def read(self, body: bytes) -> ReadInput:
        return lambda: self._decode(body)

    def _decode(self, body: bytes) -> tuple[Data, Mapping[str, Any] | None]:
        document = parse_json(body)
        if b'"b64"' in body:
            document = _without_b64(document)
        self._in_columns = isinstance(document, dict) and "inputs" in document
        return read_document(document, _FORMS)

    def reply(self, prediction: Prediction) -> Reply:
        return Reply(_encoded(prediction.answer, in_columns=self._in_columns))


def _without_b64(document: Any) -> Any:
    """*document* with each ``{"b64": TEXT}``, which stands for bytes, as the text alone."""
    try:
        return _unwrapped(document)
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply to be an input.") from error


def _unwrapped(value: Any) -> Any:
    match value:
        case {"b64": str(text)} if len(value) == 1:
            return text
        case dict():
            return {key: _unwrapped(item) for key, item in value.items()}
        case list():
            return [_unwrapped(item) for item in value]
        case _:
            return value


def _encoded(answer: Answer, *, in_columns: bool) -> bytes:
    key = "outputs" if in_columns else "predictions"
    if isinstance(answer, JsonAnswer):
        return b'{"%s":%s}' % (key.encode(), answer.text)
    columns = {name: listed(values, _in_b64) for name, values in answer.columns.items()}
    return msgspec.json.encode({key: _shaped(answer.form, columns, in_columns=in_columns)})


def _shaped(form: Form, columns: dict[str, Any], *, in_columns: bool) -> Any:
    if form is Form.TENSOR or len(columns) == 1:
        return next(iter(columns.values()))
    lengths = {len(values) for values in columns.values()}
    # Named tensors that don't go row for row have no other form than their own.
    return columns if in_columns or len(lengths) > 1 else records(columns)


def _in_b64(value: bytes) -> dict[str, str]:
    return {"b64": in_base64(value)}
