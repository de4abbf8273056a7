"""Answers the calls that training jobs make all day past Litestar: the same handlers, at half the processor time.

Only what is plain takes this way: an exact path, a whole JSON body of announced length or a query of single values,
and all of it valid. Everything else, and so every error of the request's form, goes to Litestar as it came, and
what a handler raises is answered by the same table. So the two ways can't differ in what they say.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple, cast, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from litestar import HttpMethod, Litestar, Request
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.status_codes import HTTP_200_OK, HTTP_500_INTERNAL_SERVER_ERROR
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from gateway.api.json_request import check_unique_keys
from gateway.auth import FOR_ALL, RouteWithoutPermission, admit, permission_of
from gateway.errors import answer_error
from tracking.errors import ServingError

_BODY = "data"


class Lanes(NamedTuple):
    """Where handlers run: those that only ask, and those that write."""

    reading: Executor
    writing: Executor


class _Plan:
    """How one handler is called: what it takes from the body or the query, and what it is given."""

    def __init__(
        self, handler: HTTPRouteHandler, dependencies: Mapping[str, Any], lanes: Lanes, body_bytes_max: int
    ) -> None:
        self.lane = lanes.reading if handler.http_methods == {HttpMethod.GET} else lanes.writing
        permission = permission_of(handler)
        if permission is None:
            raise RouteWithoutPermission(sorted(handler.paths))
        self.admit = partial(admit, permission, handler.opt.get(FOR_ALL))
        self.function = cast("Callable[..., Any]", handler.fn)
        parameters = inspect.signature(self.function).parameters
        self.given = {name: dependencies[name] for name in parameters if name in dependencies}
        self.body_type: type | None = get_type_hints(self.function)[_BODY] if _BODY in parameters else None
        self.query = [name for name in parameters if name not in dependencies and name != _BODY]
        own_max = handler.request_max_body_size
        self.body_bytes_max = min(body_bytes_max, own_max) if isinstance(own_max, int) else body_bytes_max

    def read_query(self, query: bytes) -> dict[str, Any] | None:
        """Its values by name; None if they aren't exactly those expected."""
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
        values = dict(pairs)
        return values if len(values) == len(pairs) and values.keys() == set(self.query) else None

    def read_body(self, body: bytes) -> dict[str, Any]:
        value = msgspec.json.decode(body)
        check_unique_keys(body, value)
        # As Litestar converts: digits in a text are a number where one is expected.
        return {_BODY: msgspec.convert(value, cast("type", self.body_type), strict=False, str_keys=True)}


class Express:
    """The way for *handlers*, each with all its paths, around *app*."""

    def __init__(
        self,
        app: Litestar,
        handlers: Iterable[HTTPRouteHandler],
        *,
        dependencies: Mapping[str, Any],
        lanes: Lanes,
        body_bytes_max: int,
    ) -> None:
        self._app = app
        self._plans = {
            (str(method), path): _Plan(handler, dependencies, lanes, body_bytes_max)
            for handler in handlers
            for path in handler.paths
            for method in handler.http_methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = cast("HTTPScope", scope)
        plan = self._plans.get((http["method"], http["path"])) if scope["type"] == ScopeType.HTTP else None
        if plan is None:
            await self._app(scope, receive, send)
            return
        try:
            # As the guard of all other routes, before anything is read.
            plan.admit()
        except ServingError as error:
            await _send_error(http, send, error)
            return
        messages: list[Message] = []
        if plan.body_type is not None and _announces(http, plan.body_bytes_max):
            messages = await _received(receive)
        arguments = _arguments(plan, http, messages)
        if arguments is None:
            await self._app(scope, _replayed(messages, receive), send)
            return
        try:
            content = await asyncio.get_running_loop().run_in_executor(
                plan.lane, copy_context().run, _call, plan, arguments
            )
        except Exception as error:  # The edge of HTTP: whatever a handler raises has its answer in the one table.
            await _send_error(http, send, error)
        else:
            await _send(send, HTTP_200_OK, {}, content)


def _call(plan: _Plan, arguments: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(plan.function(**arguments, **plan.given))


def _arguments(plan: _Plan, scope: HTTPScope, messages: list[Message]) -> dict[str, Any] | None:
    """What the request gives the handler; None if anything about it isn't plain."""
    try:
        if plan.body_type is None:
            return plan.read_query(scope["query_string"])
        # A disconnect among them has no body, and ends here.
        return plan.read_body(b"".join(message["body"] for message in messages))  # type: ignore[typeddict-item]
    except Exception:  # Litestar will find the same fault, and has the words for it.
        return None


async def _received(receive: Receive) -> list[Message]:
    """The messages of a body, to its end or its sender's."""
    messages: list[Message] = []
    while not messages or messages[-1].get("more_body"):
        messages.append(cast("Message", await receive()))
    return messages


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """*messages* once more, then what comes after them."""
    again = iter(messages)

    async def replay() -> Any:
        message = next(again, None)
        return await receive() if message is None else message

    return replay


def _announces(scope: HTTPScope, bytes_max: int) -> bool:
    """Whether the body's length is known before it is read, and within its bound."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return value.isdigit() and int(value) <= bytes_max
    return False


async def _send(send: Send, status: int, headers: Mapping[str, str], content: bytes) -> None:
    sent = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content, "more_body": False})


async def _send_error(scope: HTTPScope, send: Send, error: Exception) -> None:
    answer = answer_error(Request(scope), error)
    await _send(
        send,
        answer.status_code or HTTP_500_INTERNAL_SERVER_ERROR,
        dict(answer.headers),
        msgspec.json.encode(answer.content),
    )
