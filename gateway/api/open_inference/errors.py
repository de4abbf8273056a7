"""Errors of the protocol's routes: the statuses that all errors have, and its own body."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.types import ExceptionHandlersMap

from gateway.errors import EXCEPTION_HANDLERS, answer_error


class Refusal(msgspec.Struct):
    error: str


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Refusal]:
    answer = answer_error(request, error)
    return Response(Refusal(answer.content["message"]), status_code=answer.status_code, headers=answer.headers)


# Each kind by itself: one for all would be asked last, after those of the application.
IN_PROTOCOL: ExceptionHandlersMap = dict.fromkeys(EXCEPTION_HANDLERS, _answer)
