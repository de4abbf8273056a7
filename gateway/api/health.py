"""Liveness, readiness and versions: what probes and people ask first."""

from typing import Protocol, runtime_checkable

from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from gateway.auth import needs
from tracking.access.permissions import Permission

MLFLOW_VERSION = "3.17.2"
"""The version whose wire we speak; MLflow's client compares it with its own."""


@runtime_checkable
class Readiness(Protocol):
    """Whether this worker should be sent predictions, and if not, why."""

    def reason_not_ready(self) -> str | None: ...


@get("/health", media_type=MediaType.TEXT, sync_to_thread=False, opt=needs(Permission.PUBLIC))
def health() -> str:
    return "OK"


@get("/ping", media_type=MediaType.TEXT, sync_to_thread=False, opt=needs(Permission.PUBLIC))
def ping() -> str:
    return "\n"


@get("/version", media_type=MediaType.TEXT, sync_to_thread=False, opt=needs(Permission.PUBLIC))
def version() -> str:
    return MLFLOW_VERSION


@get("/ready", sync_to_thread=False, opt=needs(Permission.PUBLIC))
def ready(readiness: NamedDependency[Readiness]) -> Response[dict[str, str]]:
    """200 from when this worker has a routing table to answer from until a stop begins; else 503 with the reason."""
    reason = readiness.reason_not_ready()
    if reason is None:
        return Response({"status": "ready"})
    return Response({"status": "not ready", "reason": reason}, status_code=503, headers={"Retry-After": "1"})


handlers = [health, ping, version, ready]
