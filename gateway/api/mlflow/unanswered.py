"""What MLflow's server answers and Titlebout doesn't, on purpose: 501 and a sentence, not a mistyped path's 404.

They are left out of the OpenAPI document, which says what can be done here.
"""

from collections.abc import Iterable
from typing import Any

from litestar import Request, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.status_codes import HTTP_501_NOT_IMPLEMENTED

from gateway.auth import needs
from gateway.errors import error_body
from tracking.access.permissions import Permission
from tracking.errors import NotImplementedHere

_ANY_METHOD = [HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]

# A path belongs to the subject with itself and all below it. Under ``mlflow/`` it is meant for each version of the
# API and for its twin below /ajax-api.
_SUBJECTS: dict[str, tuple[str, ...]] = {
    "Tracing": (
        "mlflow/traces",
        "mlflow/unified-traces",
        "mlflow/get-online-trace-details",
        "mlflow/get-trace-artifact",
        "/v1/traces",
        "/v1/metrics",
    ),
    "Workspaces": ("mlflow/workspaces",),
    "Scorers": ("mlflow/scorers", "mlflow/scorer", "mlflow/genai"),
    "Issue detection": ("mlflow/issues",),
    "Label schemas": ("mlflow/label-schemas",),
    "Review queues": ("mlflow/review-queues",),
    "Prompt optimization": ("mlflow/prompt-optimization", "mlflow/jobs"),
    "The prompt laboratory": ("mlflow/runs/create-promptlab-run",),
    "The gateway for language models": ("mlflow/gateway", "mlflow/gateway-proxy", "/gateway"),
    "Demo data": ("mlflow/demo",),
    "Telemetry": ("mlflow/ui-telemetry",),
    "GraphQL": ("/graphql",),
}
_APIS = ("/api/2.0/", "/ajax-api/2.0/", "/api/3.0/", "/ajax-api/3.0/")


class NotAnsweredHere(NotImplementedHere):
    def __init__(self, subject: str, path: str) -> None:
        super().__init__(f"{subject}: a part of MLflow that Titlebout doesn't have, so {path} isn't answered.")


def _paths(prefixes: Iterable[str]) -> list[str]:
    whole = [
        path
        for prefix in prefixes
        for path in ([prefix] if prefix.startswith("/") else [api + prefix for api in _APIS])
    ]
    return [*whole, *(f"{path}/{{below:path}}" for path in whole)]


def _refusing(subject: str, prefixes: Iterable[str]) -> HTTPRouteHandler:
    @route(
        _paths(prefixes),
        http_method=_ANY_METHOD,
        status_code=HTTP_501_NOT_IMPLEMENTED,
        include_in_schema=False,
        opt=needs(Permission.PUBLIC),
    )
    async def refuse(request: Request[Any, Any, Any]) -> dict[str, str]:
        # Not raised: what is on purpose needs no line in the log.
        error = NotAnsweredHere(subject, request.url.path)
        return error_body(error.code, error.message)

    return refuse


handlers = [_refusing(subject, prefixes) for subject, prefixes in _SUBJECTS.items()]
