"""What a worker counts of the feedback that it is given."""

from collections.abc import Mapping
from threading import Lock

from gateway.observability.metrics import Family, Kind, Metrics

FEEDBACK = Family(
    "gateway_feedback",
    "Labels and rewards that were given, by what became of them.",
    Kind.COUNTER,
    ("endpoint", "outcome"),
)


class FeedbackMetrics:
    """Counts from several threads, as the database's are."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = Lock()

    def add(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Count so many items by (endpoint, outcome); the endpoint is empty where nothing says which it was."""
        with self._lock:
            for labels, count in counts.items():
                self._metrics.number(FEEDBACK, *labels).add(count)
