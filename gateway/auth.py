"""Who may call what. Each route declares a permission; one that declares none stops the program from starting.

Nothing checks credentials yet: until access control lands, the declarations are all there is, and `serve` stays on
loopback unless told otherwise.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from litestar.handlers import HTTPRouteHandler
from litestar.routes import BaseRoute, HTTPRoute

_OPTION = "permission"


class Permission(StrEnum):
    """What a route lets its caller do."""

    PUBLIC = "public"
    """Liveness, readiness, versions: nothing that belongs to anybody."""
    OBSERVE = "observe"
    """Metrics and the state of the deployment."""
    SCORE = "score"
    TRACKING_READ = "tracking:read"
    TRACKING_WRITE = "tracking:write"
    ARTIFACT_READ = "artifact:read"
    ARTIFACT_WRITE = "artifact:write"
    REGISTRY_READ = "registry:read"
    REGISTRY_WRITE = "registry:write"
    ALIAS_WRITE = "alias:write"
    SPLIT_WRITE = "split:write"


class RouteWithoutPermission(RuntimeError):
    """A programming error, found at start and not by a visitor."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(f"Routes that declare no permission: {', '.join(paths)}")


def needs(permission: Permission) -> dict[str, Any]:
    """The ``opt`` of a route handler: ``@post("/…", opt=needs(Permission.ALIAS_WRITE))``."""
    return {_OPTION: permission}


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
