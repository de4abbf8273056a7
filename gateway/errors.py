"""The one table from errors to HTTP statuses, and the one shape of an error's body.

MLflow's client retries 408, 429, 500, 502, 503 and 504 for minutes, so what a caller must change is never one of them.
"""

import logging
import re
from typing import Any, cast

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap
from sqlalchemy.exc import DataError

from tracking.errors import ErrorCode, ServingError

_log = logging.getLogger(__name__)

STATUS: dict[ErrorCode, int] = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.INVALID_PARAMETER_VALUE: 400,
    ErrorCode.RESOURCE_ALREADY_EXISTS: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.RESOURCE_DOES_NOT_EXIST: 404,
    ErrorCode.ENDPOINT_NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.RESOURCE_CONFLICT: 409,
    ErrorCode.REQUEST_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.RESOURCE_EXHAUSTED: 429,
    ErrorCode.INVALID_STATE: 500,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.NOT_IMPLEMENTED: 501,
    ErrorCode.TEMPORARILY_UNAVAILABLE: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
}

_CODE_OF_STATUS: dict[int, ErrorCode] = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.ENDPOINT_NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.REQUEST_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    429: ErrorCode.RESOURCE_EXHAUSTED,
    503: ErrorCode.TEMPORARILY_UNAVAILABLE,
}

# What Litestar says, as a 500, when a caller hangs up in the middle of a body (litestar/connection/request.py).
_CALLER_LEFT = "client disconnected prematurely"

# What a caller reads when the fault is ours; the cause is in the log, under the request's id.
INTERNAL_MESSAGE = "Something went wrong here, and it has been logged under the request id."


_CHALLENGE = 'Bearer realm="titlebout", Basic realm="titlebout", charset="UTF-8"'


def error_body(code: str, message: str) -> dict[str, str]:
    """The body of every error: what MLflow's client parses."""
    return {"error_code": code, "message": message}


def status_of(error: ServingError) -> int:
    return STATUS[error.code]


def headers_of(error: ServingError) -> dict[str, str]:
    if error.code is ErrorCode.UNAUTHENTICATED:
        return {"WWW-Authenticate": _CHALLENGE}
    return {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}


def _answer_serving_error(request: Request[Any, Any, Any], error: ServingError) -> Response[dict[str, str]]:
    status = status_of(error)
    if status >= 500:
        # A part that is away says so in a line; what is a fault of ours or unexpected comes with its trace.
        trace = error if error.code in {ErrorCode.INTERNAL_ERROR, ErrorCode.INVALID_STATE} else None
        facts = {"path": request.url.path, "code": error.code, "reason": error.reason}
        _log.warning("request_failed", extra=facts, exc_info=trace)
    message = (
        error.message if error.code not in {ErrorCode.INTERNAL_ERROR, ErrorCode.INVALID_STATE} else INTERNAL_MESSAGE
    )
    return Response(error_body(error.code, message), status_code=status, headers=headers_of(error))


def _answer_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, str]]:
    status = error.status_code
    if error.detail == _CALLER_LEFT:
        # Nobody reads this answer, and nobody needs to be woken by it.
        return Response(error_body(ErrorCode.BAD_REQUEST, "The body ended before its end."), status_code=400)
    if status >= 500:
        return _answer_unexpected(request, error)
    if isinstance(error, ValidationException):
        body = error_body(ErrorCode.INVALID_PARAMETER_VALUE, _validation_message(error))
    else:
        body = error_body(_CODE_OF_STATUS.get(status, ErrorCode.BAD_REQUEST), _http_message(request, error))
    return Response(body, status_code=status, headers=error.headers)


def _answer_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, str]]:
    _log.error("request_crashed", extra={"path": request.url.path, "method": request.method}, exc_info=error)
    return Response(error_body(ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE), status_code=500)


def _http_message(request: Request[Any, Any, Any], error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return f"There is nothing at {request.url.path}."
        case 405:
            return f"{request.method} is not a method of {request.url.path}."
        case 413:
            return "The body is over the limit for this path."
        case _:
            return error.detail


def _validation_message(error: ValidationException) -> str:
    """Name the parameter and what was expected, in the genuine server's words where it has some."""
    cause = str(error.__cause__ or "")
    missing = re.search(r"missing required field `(\w+)`", cause) or re.search(
        r"Missing required \w+ parameter '([^']+)'", error.detail
    )
    if missing:
        if missing[1] == "data":
            return "A JSON object is expected in the body; there is none."
        return f"Missing value for required parameter '{missing[1]}'"
    details = error.extra if isinstance(error.extra, list) else []
    said = [
        f"Invalid value for parameter '{item.get('key', 'body')}' supplied: {item.get('message')}"
        for item in details
        if isinstance(item, dict)
    ]
    return "; ".join(said).replace("parameter 'data'", "the body") or error.detail


def _answer_too_deep(_: Request[Any, Any, Any], __: RecursionError) -> Response[dict[str, str]]:
    return Response(error_body(ErrorCode.BAD_REQUEST, "The body is nested too deeply."), status_code=400)


def _answer_out_of_range(request: Request[Any, Any, Any], error: DataError | OverflowError) -> Response[dict[str, str]]:
    # A number or a text that no column can hold. The transaction is undone, so nothing was written.
    _log.info("value_out_of_range", extra={"path": request.url.path}, exc_info=error)
    message = "A value is outside of what can be stored; numbers have at most 64 bits."
    return Response(error_body(ErrorCode.INVALID_PARAMETER_VALUE, message), status_code=400)


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    # An `Exception` handler alone would swallow Litestar's own 404 and 405 and turn them into 500.
    HTTPException: _answer_http_exception,
    ServingError: _answer_serving_error,
    RecursionError: _answer_too_deep,
    DataError: _answer_out_of_range,
    OverflowError: _answer_out_of_range,
    Exception: _answer_unexpected,
}


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, str]]:
    """What the table answers to *error*, for those who stand before Litestar."""
    handler = next(EXCEPTION_HANDLERS[kind] for kind in type(error).__mro__ if kind in EXCEPTION_HANDLERS)
    return cast("Response[dict[str, str]]", handler(request, error))
