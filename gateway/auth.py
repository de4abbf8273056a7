"""Who may call what. Each route declares a permission; one that declares none stops the program from starting.

The check is made for the handler that answers, after its path was matched: no other spelling of the path is looked at.
"""

from collections.abc import Iterable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import BaseRoute, HTTPRoute

from gateway.access.credentials import NoCredentials
from gateway.access.identity import IDENTITY
from tracking.access.caller import CALLER, Caller
from tracking.access.grants import NOTHING
from tracking.access.narrowing import NotGranted
from tracking.access.permissions import Permission

_OPTION = "permission"
FOR_ALL = "for_all"
"""Of a handler's ``opt``: what its route does that can't be narrowed."""
_NOBODY = Caller("nobody", NOTHING, NOTHING)


class RouteWithoutPermission(RuntimeError):
    """A programming error, found at start and not by a visitor."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(f"Routes that declare no permission: {', '.join(paths)}")


def needs(permission: Permission, *, for_all: str | None = None) -> dict[str, Any]:
    """The ``opt`` of a route handler: ``@post("/…", opt=needs(Permission.ALIAS_WRITE))``.

    *for_all* says what can't be narrowed, as in "see /metrics": it takes a grant for everything.
    """
    return {_OPTION: permission, FOR_ALL: for_all}


def admit(permission: Permission, for_all: str | None = None) -> None:
    """Let the sender of this request have what *permission* lets them do, or nothing.

    Raises:
        NoCredentials: if they have to say who they are first.
        NotPermitted: if nobody has granted it to them for anything.
        NotGranted: if it is granted for some things only, and the route is for all or nothing.
    """
    if permission is Permission.PUBLIC:
        CALLER.set(_NOBODY)
        return
    identity = IDENTITY.get()
    if identity is None:
        raise NoCredentials
    caller = identity.caller(permission)
    if for_all is not None and not caller.acting.everything:
        raise NotGranted(caller.name, f"{for_all} with a grant for some models or experiments only")
    CALLER.set(caller)


async def check_permission(_: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of all routes: what its handler declared is what its caller needs.

    A coroutine, because a plain function would run in a thread, and what it says of the caller would stay there.
    """
    permission = permission_of(handler)
    if permission is not None:
        admit(permission, handler.opt.get(FOR_ALL))


def permission_of(handler: BaseRouteHandler) -> Permission | None:
    """What *handler* declares; None for Litestar's own answers to OPTIONS."""
    found = handler.opt.get(_OPTION)
    return found if isinstance(found, Permission) else None


def require_declared_permissions(routes: Iterable[BaseRoute]) -> None:
    """Raise `RouteWithoutPermission` if any handler of *routes* declares none."""
    undeclared = [
        f"{' '.join(sorted(handler.http_methods))} {route.path}"
        if isinstance(handler, HTTPRouteHandler)
        else f"{route.path} ({type(handler).__name__})"
        for route in routes
        for handler in _handlers_of(route)
        if not isinstance(handler.opt.get(_OPTION), Permission) and not _answers_options_only(handler)
    ]
    if undeclared:
        raise RouteWithoutPermission(sorted(undeclared))


def _handlers_of(route: BaseRoute) -> list[Any]:
    if isinstance(route, HTTPRoute):
        return list(route.route_handlers)
    return [route.route_handler]  # type: ignore[attr-defined]  # ASGI and WebSocket routes have exactly one


def _answers_options_only(handler: object) -> bool:
    # Litestar adds an OPTIONS answer to each path by itself; it only lists methods.
    return isinstance(handler, HTTPRouteHandler) and handler.http_methods == {"OPTIONS"}
