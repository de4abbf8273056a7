"""`/metrics`, in Prometheus's text format."""

from litestar import Response, get
from litestar.di import NamedDependency

from gateway.auth import needs
from gateway.observability.exposition import AllMetrics
from tracking.access.permissions import Permission


# In a thread, because it reads the files of all workers.
@get("/metrics", sync_to_thread=True, opt=needs(Permission.OBSERVE, for_all="see /metrics, which counts every model,"))
def metrics(all_metrics: NamedDependency[AllMetrics]) -> Response[bytes]:
    return Response(all_metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


handlers = [metrics]
