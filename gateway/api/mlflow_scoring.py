"""MLflow's scoring protocol: `/invocations` and `/endpoints/NAME/invocations`."""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np

from gateway.api.scoring import Ask, Dialect, Headers, Reply, header_text, version_number
from gateway.scoring.inference import Prediction, ReadInput, Target
from loaders.base import Answer, Batch, Form, JsonAnswer
from loaders.payload import Data, read_csv, read_document
from registry.entities import CHAMPION
from registry.uri import parse_model_uri
from tracking.errors import BadRequest, ErrorCode, ServingError


class UnsupportedMediaType(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class MlflowScoring(Dialect):
    """What `mlflow models serve` answers, for many models."""

    name = "mlflow"
    paths = re.compile(r"/(?:endpoints/(?P<endpoint>[^/]+)/(?:versions/(?P<version>[^/]+)/)?)?invocations/?")

    def __init__(self, default_model: str) -> None:
        """*default_model* is what bare ``/invocations`` serves; empty means the only endpoint there is."""
        self._default = _default_target(default_model)

    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        arm, unit = header_text(headers, b"x-titlebout-arm"), header_text(headers, b"x-titlebout-unit")
        if path["endpoint"] is None:
            default = self._default
            target = Target(default.endpoint, arm or default.arm, default.version, unit)
        else:
            # Decoded once, and only here: a name may hold a quoted slash or an @.
            target = Target(unquote(path["endpoint"]), arm, version_number(path["version"]), unit)
        return _Invocation(target, headers)


class _Invocation(Ask):
    def __init__(self, target: Target, headers: Headers) -> None:
        self.target = target
        self._headers = headers

    def read(self, body: bytes) -> ReadInput:
        return _reader(self._headers, body)

    def reply(self, prediction: Prediction) -> Reply:
        return Reply(encode_predictions(prediction.answer))


# --- what comes in


def _reader(headers: Headers, body: bytes) -> ReadInput:
    """What decodes *body*, by its content type, once it is wanted.

    Raises:
        UnsupportedMediaType: for a type, charset or parameter that isn't known.
    """
    media_type, options = _content_type(headers.get(b"content-type", b""))
    if media_type == "application/json":
        return lambda: decode_json(body)
    if media_type == "text/csv":
        header = options.get("header", "present") != "absent"
        return lambda: (_decode_csv(body, header=header), None)
    raise UnsupportedMediaType(
        f"Content-Type {media_type or '(none)'!r} is not accepted here; expected application/json or text/csv."
    )


def decode_json(body: bytes) -> tuple[Data, Mapping[str, Any] | None]:
    """The data and the params of a JSON body.

    Raises:
        BadRequest: if it is no JSON, or nested deeper than any input is.
        BadInput: if it isn't one of the four forms.
    """
    try:
        return read_document(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply to be an input.") from error


def _decode_csv(body: bytes, *, header: bool) -> Data:
    try:
        return read_csv(body.decode("utf-8"), header=header)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not valid UTF-8 at byte {error.start}.") from error


def _content_type(value: bytes) -> tuple[str, dict[str, str]]:
    media_type, *parts = value.decode("latin-1").split(";")
    options = {}
    for part in parts:
        name, _, option = part.partition("=")
        options[name.strip().lower()] = option.strip().strip('"').lower()
    charset = options.pop("charset", "utf-8")
    if charset not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType(f"Charset {charset!r} is not accepted here; expected utf-8.")
    unknown = options.keys() - {"header"}
    if unknown:
        raise UnsupportedMediaType(f"Content-Type parameters {sorted(unknown)} are not known here.")
    return media_type.strip().lower(), options


def _default_target(model: str) -> Target:
    """What bare ``/invocations`` serves: an endpoint, split and all, for a name or its champion; else one arm."""
    if not model:
        return Target(None)
    reference = parse_model_uri(model)
    if reference.version is not None:
        return Target(reference.name, version=reference.version)
    alias = reference.alias
    return Target(reference.name, None if alias in {None, CHAMPION} else alias)


# --- what goes out


def encode_predictions(answer: Answer) -> bytes:
    """The body of an answer. A missing number is null, a time is ISO 8601, bytes are base64."""
    if isinstance(answer, JsonAnswer):
        return b'{"predictions":' + answer.text + b"}"
    return msgspec.json.encode({"predictions": _plain(answer)})


def _plain(answer: Batch) -> Any:
    match answer.form:
        case Form.TENSOR:
            return _listed(answer.columns[""])
        case Form.TENSORS:
            return {name: _listed(values) for name, values in answer.columns.items()}
        case Form.TABLE:
            names = list(answer.columns)
            columns = [_listed(values) for values in answer.columns.values()]
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _listed(values: np.ndarray) -> Any:
    if values.dtype.kind == "M":
        written = np.datetime_as_string(values).astype(object)
        written[np.isnat(values)] = None
        return written.tolist()
    if values.dtype.kind == "O":
        return [base64.b64encode(v).decode() if isinstance(v, bytes) else v for v in values.tolist()]
    return values.tolist()
