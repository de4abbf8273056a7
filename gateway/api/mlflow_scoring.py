"""MLflow's scoring protocol: `/invocations` and `/endpoints/NAME/invocations`, as one ASGI function.

It translates and nothing else: bytes to a payload, an answer to JSON, an error to a status. What happens in between is
`gateway.scoring.inference`.
"""

import base64
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import numpy as np
from litestar.enums import ScopeType
from litestar.types import HTTPScope, Receive, Scope, Send

from gateway.api.request_body import read_body
from gateway.errors import INTERNAL_MESSAGE, error_body, headers_of, status_of
from gateway.observability import REQUEST_ID, RequestMetrics
from gateway.routing_table import CurrentTable
from gateway.scoring.inference import Choice, EndpointNotServed, Inference, ReadInput, Target
from loaders.base import Answer, Batch, Form, JsonAnswer
from loaders.payload import Data, read_csv, read_document
from registry.entities import CHAMPION
from registry.uri import parse_model_uri
from tracking.errors import BadRequest, ErrorCode, InvalidParameter, NotFound, ServingError

_log = logging.getLogger(__name__)

_PATH = re.compile(r"^/(?:endpoints/(?P<endpoint>[^/]+)/(?:versions/(?P<version>[^/]+)/)?)?invocations/?$")
_UNIT_BYTES_MAX = 1024
_JSON_TYPE = (b"content-type", b"application/json")

Headers = Mapping[bytes, bytes]
ExplainMissing = Callable[[str], Awaitable[ServingError]]
"""Says why a name isn't served, which may take a question to the database; never asked on the way of a prediction."""


class UnsupportedMediaType(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class MethodNotAllowed(ServingError):
    code = ErrorCode.METHOD_NOT_ALLOWED

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"{method} is not a method of {path}; predictions are asked for by POST.")


class MlflowScoring:
    """The ASGI function of the scoring paths."""

    def __init__(
        self,
        inference: Inference,
        current: CurrentTable,
        *,
        default_model: str,
        body_bytes_max: int,
        explain_missing: ExplainMissing,
        metrics: RequestMetrics,
    ) -> None:
        self._inference = inference
        self._current = current
        self._default = _default_target(default_model)
        self._body_bytes_max = body_bytes_max
        self._explain_missing = explain_missing
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP  # noqa: S101  (for the type checker: the front sends nothing else)
        started = time.perf_counter()
        headers: Headers = dict(scope["headers"])
        said = [(b"x-request-id", REQUEST_ID.get().encode())]
        choice: Choice | None = None
        rows = 0
        try:
            target = self._target(scope, headers)
            body = await read_body(scope, receive, self._body_bytes_max)
            choice = self._inference.choose(target)
            said += _who_answers(choice)
            answer, rows = await self._inference.predict(choice, _reader(headers, body))
            status, content = 200, encode_predictions(answer)
        except EndpointNotServed as error:
            status, content = _encode_error(await self._explain_missing(error.name), said)
        except ServingError as error:
            status, content = _encode_error(error, said)
        except Exception:  # The HTTP edge: a bug of ours is a 500 with its cause in the log, never a broken connection.
            _log.exception("prediction_crashed")
            status, content = 500, msgspec.json.encode(error_body(ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE))
        if self._current.stale_since_s is not None:
            said.append((b"x-titlebout-stale-s", str(max(0, int(time.time() - self._current.stale_since_s))).encode()))
        await _send(send, status, content, said)
        self._account(choice, status, rows, time.perf_counter() - started)

    def _target(self, scope: HTTPScope, headers: Headers) -> Target:
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], scope["path"])
        path = scope["raw_path"].split(b"?", 1)[0].decode("latin-1")
        match = _PATH.match(path)
        if match is None:
            raise NotFound(f"There is nothing at {scope['path']}.")
        arm, unit = _text(headers, b"x-titlebout-arm"), _text(headers, b"x-titlebout-unit")
        if match["endpoint"] is None:
            default = self._default
            return Target(default.endpoint, arm or default.arm, default.version, unit)
        # Decoded once, and only here: a name may hold a quoted slash or an @.
        return Target(unquote(match["endpoint"]), arm, _version(match["version"]), unit)

    def _account(self, choice: Choice | None, status: int, rows: int, took_s: float) -> None:
        self._metrics.observe(choice, status, took_s)
        if not _log.isEnabledFor(logging.INFO):
            return
        facts: dict[str, Any] = {
            "status": status,
            "rows": rows,
            "took_ms": round(took_s * 1000, 3),
        }
        if choice is not None:
            facts.update(
                endpoint=choice.endpoint,
                arm=choice.arm,
                model=choice.model,
                version=choice.version,
                epoch=choice.epoch,
            )
        _log.info("predicted" if status < 400 else "prediction_refused", extra=facts)


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


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidParameter(f"{text!r} is no version; expected a number.")
    return int(text)


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    if not value:
        return None
    if len(value) > _UNIT_BYTES_MAX:
        raise InvalidParameter(f"{name.decode()} is longer than {_UNIT_BYTES_MAX} bytes.")
    # Names that aren't ASCII come percent-encoded; whatever else the bytes are, they still mean one unit.
    return unquote(value.decode("utf-8", "surrogateescape"))


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


def _who_answers(choice: Choice) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-titlebout-model", _header_value(choice.model)),
        (b"x-titlebout-version", str(choice.version).encode()),
        (b"x-titlebout-arm", _header_value(choice.arm)),
        (b"x-titlebout-epoch", str(choice.epoch).encode()),
    ]


def _header_value(name: str) -> bytes:
    """A name as a header can carry it: itself where it is printable ASCII, else percent-encoded UTF-8."""
    return name.encode() if name.isascii() and name.isprintable() else quote(name).encode()


def _encode_error(error: ServingError, said: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    status = status_of(error)
    said += [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
    message = error.message
    if status >= 500:
        _log.warning("prediction_failed", extra={"code": error.code, "reason": error.message})
    if error.code in {ErrorCode.INTERNAL_ERROR, ErrorCode.INVALID_STATE}:
        message = "The model's code failed on this input; the log has its words under the request id."
    return status, msgspec.json.encode(error_body(error.code, message))


async def _send(send: Send, status: int, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [_JSON_TYPE, length, *headers]})
    await send({"type": "http.response.body", "body": content, "more_body": False})
