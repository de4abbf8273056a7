"""What a worker counts of predictions, by who answered them."""

from gateway.observability.metrics import Distribution, Family, Kind, Metrics, Number
from gateway.routing_table import Choice

_ARM = ("model", "version", "arm")
_ENDPOINT_ARM = ("endpoint", *_ARM)
# From a cached linear model to a slow transformer.
_REQUEST_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PHASE_BOUNDS_S = (0.00005, 0.0001, 0.00025, *_REQUEST_BOUNDS_S)
_BATCH_BOUNDS = tuple(float(2**power) for power in range(13))

REQUESTS = Family("gateway_requests", "Prediction requests.", Kind.COUNTER, (*_ENDPOINT_ARM, "status"))
FAILURES = Family("gateway_failures", "Predictions that failed, by why.", Kind.COUNTER, (*_ENDPOINT_ARM, "code"))
FAILURE_SECONDS = Family(
    "gateway_failure_seconds", "Time that failed predictions took, all together.", Kind.COUNTER, _ENDPOINT_ARM
)
FALLBACKS = Family(
    "gateway_fallbacks", "Requests that the champion answered because this arm failed.", Kind.COUNTER, _ENDPOINT_ARM
)
REQUEST_SECONDS = Family(
    "gateway_request_seconds",
    "Time from the first byte of a request to the last of its answer.",
    Kind.HISTOGRAM,
    _ENDPOINT_ARM,
    _REQUEST_BOUNDS_S,
)
PHASE_SECONDS = Family(
    "gateway_phase_seconds",
    "Time that an answered request took to be decoded, queued, computed and encoded.",
    Kind.HISTOGRAM,
    (*_ARM, "phase"),
    _PHASE_BOUNDS_S,
)
BATCH_REQUESTS = Family(
    "gateway_batch_requests", "Requests in a message to a model.", Kind.HISTOGRAM, ("model", "version"), _BATCH_BOUNDS
)
BATCH_ROWS = Family(
    "gateway_batch_rows", "Rows in a message to a model.", Kind.HISTOGRAM, ("model", "version"), _BATCH_BOUNDS
)
UNCOUNTED_REQUESTS = Family(
    "gateway_uncounted_requests",
    "Requests that no comparison counts, because the database was away too long.",
    Kind.COUNTER,
)
KEPT_PREDICTIONS = Family("gateway_predictions_kept", "Predictions that the prediction log has kept.", Kind.COUNTER)
LOST_PREDICTIONS = Family(
    "gateway_predictions_not_kept", "Predictions that it would have kept, had there been room.", Kind.COUNTER
)
DROPPED_LINES = Family("gateway_log_lines_dropped", "Log lines of predictions that nobody took.", Kind.COUNTER)


class ArmMetrics:
    """The series of one arm, looked up once. *choice* is None for requests that never got as far as an endpoint."""

    __slots__ = ("_labels", "_metrics", "_requests", "compute", "decode", "encode", "queue", "seconds")

    def __init__(self, metrics: Metrics, choice: Choice | None) -> None:
        self._metrics = metrics
        who = ("", "", "") if choice is None else (choice.model, str(choice.version), choice.arm)
        self._labels = ("" if choice is None else choice.endpoint, *who)
        self._requests: dict[int, Number] = {}
        self.seconds: Distribution = metrics.distribution(REQUEST_SECONDS, *self._labels)
        if choice is None:
            return
        self.decode: Distribution = metrics.distribution(PHASE_SECONDS, *who, "decode")
        self.queue: Distribution = metrics.distribution(PHASE_SECONDS, *who, "queue")
        self.compute: Distribution = metrics.distribution(PHASE_SECONDS, *who, "compute")
        self.encode: Distribution = metrics.distribution(PHASE_SECONDS, *who, "encode")

    def answered(self, status: int, took_s: float) -> None:
        requests = self._requests.get(status)
        if requests is None:
            requests = self._requests[status] = self._metrics.number(REQUESTS, *self._labels, str(status))
        requests.value += 1
        self.seconds.observe(took_s)

    def failed(self, code: str, took_s: float) -> None:
        self._metrics.number(FAILURES, *self._labels, code).add()
        self._metrics.number(FAILURE_SECONDS, *self._labels).add(took_s)


class BatchMetrics:
    """The series of one version's messages."""

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        self._requests = metrics.distribution(BATCH_REQUESTS, model, str(version))
        self._rows = metrics.distribution(BATCH_ROWS, model, str(version))

    def sent(self, requests: int, rows: int) -> None:
        self._requests.observe(requests)
        self._rows.observe(rows)
