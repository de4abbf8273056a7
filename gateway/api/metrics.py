"""`/metrics`, in Prometheus's text format."""

from litestar import Response, get

from gateway.auth import Permission, needs
from gateway.observability import exposition


# In a thread, because it reads the files of all workers.
@get("/metrics", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def metrics() -> Response[bytes]:
    return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


handlers = [metrics]
