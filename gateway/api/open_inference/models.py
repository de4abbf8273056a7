"""Open Inference Protocol v2, beside predictions: the server, and what a worker knows of the models it answers for.

Each model's paths come through one handler, which reads them as they came over the wire: a name may hold a quoted
slash, as ``models:%2Firis%40champion`` does.
"""

import asyncio
import re
from importlib.metadata import version as installed_version
from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, get, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from gateway.api.health import Readiness
from gateway.api.open_inference.errors import IN_PROTOCOL
from gateway.api.open_inference.names import TensorMetadata, describe_inputs, describe_outputs
from gateway.api.open_inference.statistics import ModelStatistics, read_statistics
from gateway.api.raw_paths import raw_path_below
from gateway.api.scoring.unserved import explain_unserved
from gateway.api.scoring.walk import version_number
from gateway.auth import needs
from gateway.observability.exposition import AllMetrics
from gateway.scoring.inference import EndpointNotServed, Target
from gateway.scoring.served_models import ServedModels
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import ErrorCode, NotFound, TemporarilyUnavailable

_MODELS = "/v2/models/"
_EXTENSIONS = ["binary_tensor_data", "model_repository", "statistics"]
_OF_A_MODEL = re.compile(r"(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<what>ready|stats))?/?")
_NOT_YET = {503: ResponseSpec(None, description="The version is being brought into memory.")}


class NotReady(TemporarilyUnavailable):
    pass


class NoSuchPath(NotFound):
    code = ErrorCode.ENDPOINT_NOT_FOUND

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path}.")


class Liveness(msgspec.Struct):
    """Triton's client looks at the status alone, KServe's at this."""

    live: bool = True


class ServerReadiness(msgspec.Struct):
    ready: bool = True


class ModelReadiness(msgspec.Struct):
    name: str
    ready: bool = True


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: list[str]


class ModelMetadata(msgspec.Struct):
    name: str
    versions: list[str]
    """Those in memory."""
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Statistics(msgspec.Struct):
    model_stats: list[ModelStatistics]


Answered = Response[ModelMetadata | ModelReadiness | Statistics]


@get("/v2", sync_to_thread=False, opt=needs(Permission.PUBLIC), exception_handlers=IN_PROTOCOL)
def describe_server() -> ServerMetadata:
    return ServerMetadata("titlebout", installed_version("titlebout"), _EXTENSIONS)


@get("/v2/health/live", sync_to_thread=False, opt=needs(Permission.PUBLIC), exception_handlers=IN_PROTOCOL)
def server_live() -> Liveness:
    """200 for as long as anything is answered."""
    return Liveness()


@get("/v2/health/ready", sync_to_thread=False, opt=needs(Permission.PUBLIC), exception_handlers=IN_PROTOCOL)
def server_ready(readiness: NamedDependency[Readiness]) -> ServerReadiness:
    """200 once this worker has a routing table to answer from; else 503 with the reason."""
    reason = readiness.reason_not_ready()
    if reason is not None:
        raise NotReady(reason)
    return ServerReadiness()


@get(f"{_MODELS}stats", sync_to_thread=True, opt=needs(Permission.OBSERVE), exception_handlers=IN_PROTOCOL)
def count_all(all_metrics: NamedDependency[AllMetrics]) -> Statistics:
    """Statistics of all models that were asked here."""
    return Statistics(read_statistics(all_metrics))


@get(f"{_MODELS}{{path:path}}", opt=needs(Permission.OBSERVE), exception_handlers=IN_PROTOCOL, responses=_NOT_YET)
async def look_at_model(
    request: Request[Any, Any, Any],
    path: FromPath[str],  # noqa: ARG001  (names the parameter; it is read from the raw path)
    served_models: NamedDependency[ServedModels],
    database: NamedDependency[Database],
    all_metrics: NamedDependency[AllMetrics],
) -> Answered:
    """``NAME`` or ``NAME/versions/V`` for metadata; with ``/ready`` behind it 200 or why not, with ``/stats`` figures.

    *NAME* is an endpoint's, ``NAME@ALIAS``, or a model's URI; what is quoted in it stays one name.
    """
    match = _OF_A_MODEL.fullmatch(raw_path_below(request, _MODELS).decode("latin-1"))
    if match is None:
        raise NoSuchPath(request.url.path)
    target = Target(unquote(match["name"]), version=version_number(match["version"]))
    try:
        return await _look(served_models, all_metrics, target, match["what"])
    except EndpointNotServed as error:
        raise await asyncio.to_thread(explain_unserved, database, error.name) from error


async def _look(served_models: ServedModels, metrics: AllMetrics, target: Target, what: str | None) -> Answered:
    match what:
        case "ready":
            return Response(ModelReadiness(served_models.ensure_ready(target)))
        case "stats":
            model, versions = served_models.find_versions(target)
            return Response(Statistics(await asyncio.to_thread(read_statistics, metrics, model, versions)))
    served = served_models.describe(target)
    return Response(
        ModelMetadata(
            name=served.endpoint,
            versions=[str(version) for version in served.in_memory],
            platform=f"mlflow_{served.flavor}",
            inputs=describe_inputs(served.signature),
            outputs=describe_outputs(served.signature),
        )
    )


def _refusing(path: str, *methods: HttpMethod) -> HTTPRouteHandler:
    @route(
        path,
        http_method=list(methods),
        include_in_schema=False,
        opt=needs(Permission.PUBLIC),
        exception_handlers=IN_PROTOCOL,
    )
    async def refuse(request: Request[Any, Any, Any], path: FromPath[str]) -> None:  # noqa: ARG001  (as above)
        raise NoSuchPath(request.url.path)

    return refuse


handlers = [
    describe_server,
    server_live,
    server_ready,
    count_all,
    look_at_model,
    # The rest of what clients know is refused in the protocol's own words: configurations, traces, shared memory.
    _refusing("/v2/{path:path}", HttpMethod.GET, HttpMethod.POST),
    _refusing(f"{_MODELS}{{path:path}}", HttpMethod.POST),
]
