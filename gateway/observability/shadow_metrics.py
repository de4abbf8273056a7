"""What a worker counts of the copies that shadows are asked."""

from gateway.observability.metrics import Family, Kind, Metrics
from gateway.routing_table import Choice

SHADOW_REQUESTS = Family(
    "gateway_shadow_requests",
    "Copies of requests for a shadow: agreed, differed, failed, or dropped before it was asked.",
    Kind.COUNTER,
    ("endpoint", "model", "version", "arm", "outcome"),
)


def count_copies(metrics: Metrics, shadow: Choice, outcome: str, count: int = 1) -> None:
    """Count so many copies that came to *outcome*."""
    labels = (shadow.endpoint, shadow.model, str(shadow.version), shadow.arm, outcome)
    metrics.number(SHADOW_REQUESTS, *labels).add(count)
