"""The shares of endpoints' traffic that are in force, as gauges."""

from collections import Counter
from collections.abc import Iterable

from gateway.observability.metrics import Family, Kind, Labels, Metrics
from registry.entities import Route
from registry.splits import BUCKETS

SHARE = Family(
    "gateway_split_share",
    "Share of an endpoint's traffic that its split gives to an arm, 0 to 1.",
    Kind.GAUGE,
    ("endpoint", "model", "version", "arm"),
)


def show(metrics: Metrics, routes: Iterable[Route]) -> None:
    """Have the gauges be of just these, arms in the dark among them."""
    metrics.set_gauges(SHARE, {labels: share for route in routes for labels, share in _shares(route).items()})


def _shares(route: Route) -> dict[Labels, float]:
    owned: Counter[str] = Counter()
    for arm, buckets in route.owners:
        owned[arm] += buckets
    return {(route.name, route.model, str(version), arm): owned[arm] / BUCKETS for arm, version in route.arms.items()}
