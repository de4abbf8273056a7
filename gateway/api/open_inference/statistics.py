"""Statistics as the Open Inference Protocol's extension writes them, from what all workers of this replica counted."""

from collections import defaultdict
from collections.abc import Collection, Iterable

import msgspec
from prometheus_client.samples import Sample

from gateway.observability.exposition import AllMetrics
from registry.entities import VersionKey
from tracking.access.caller import CALLER


class Duration(msgspec.Struct):
    """How often, and how long all times together."""

    count: int = 0
    ns: int = 0


class InferenceStatistics(msgspec.Struct):
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(msgspec.Struct):
    name: str
    version: str
    inference_count: int
    """Rows that the model was asked for."""
    execution_count: int
    """Messages in which they went to it."""
    inference_stats: InferenceStatistics


def read_statistics(
    metrics: AllMetrics, model: str | None = None, versions: Collection[int] | None = None
) -> list[ModelStatistics]:
    """Of each version of *model* that was asked since this replica started; None is for all that the caller may see."""
    names = CALLER.get().reading.models
    figures: defaultdict[VersionKey, _Figures] = defaultdict(_Figures)
    for sample in _samples(metrics):
        if sample.labels.get("model") and sample.labels.get("version"):
            figures[sample.labels["model"], int(sample.labels["version"])].add(sample)
    return [
        figures[key].statistics(key)
        for key in sorted(figures)
        if key[0] in names and (model is None or (key[0] == model and (versions is None or key[1] in versions)))
    ]


class _Figures:
    """What was counted of one version, by Prometheus's names."""

    def __init__(self) -> None:
        self._success = self._fail = self._messages = self._rows = 0
        self._seconds = self._fail_seconds = 0.0
        self._phases: defaultdict[str, Duration] = defaultdict(Duration)

    def add(self, sample: Sample) -> None:
        match sample.name:
            case "gateway_requests_total" if sample.labels["status"].startswith("2"):
                self._success += int(sample.value)
            case "gateway_requests_total":
                self._fail += int(sample.value)
            case "gateway_request_seconds_sum":
                self._seconds += sample.value
            case "gateway_failure_seconds_total":
                self._fail_seconds += sample.value
            case "gateway_phase_seconds_count":
                self._phases[sample.labels["phase"]].count += int(sample.value)
            case "gateway_phase_seconds_sum":
                self._phases[sample.labels["phase"]].ns += _ns(sample.value)
            case "gateway_batch_rows_count":
                self._messages += int(sample.value)
            case "gateway_batch_rows_sum":
                self._rows += int(sample.value)

    def statistics(self, key: VersionKey) -> ModelStatistics:
        return ModelStatistics(
            name=key[0],
            version=str(key[1]),
            inference_count=self._rows,
            execution_count=self._messages,
            inference_stats=InferenceStatistics(
                success=Duration(self._success, _ns(self._seconds - self._fail_seconds)),
                fail=Duration(self._fail, _ns(self._fail_seconds)),
                queue=self._phases["queue"],
                compute_input=self._phases["decode"],
                compute_infer=self._phases["compute"],
                compute_output=self._phases["encode"],
            ),
        )


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _samples(metrics: AllMetrics) -> Iterable[Sample]:
    for metric in metrics.collect():
        yield from metric.samples
