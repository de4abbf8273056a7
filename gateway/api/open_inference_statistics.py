"""Statistics as the Open Inference Protocol's extension writes them, from what all workers of this replica counted."""

from collections import defaultdict
from collections.abc import Collection, Iterable

import msgspec
from prometheus_client import Metric
from prometheus_client.samples import Sample

from gateway.observability import all_metrics
from registry.entities import VersionKey

_NS = 1_000_000_000


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
    execution_count: int
    inference_stats: InferenceStatistics


def read_statistics(model: str | None = None, versions: Collection[int] | None = None) -> list[ModelStatistics]:
    """Of each version of *model* that was asked since this replica started; None is for all."""
    figures: defaultdict[VersionKey, _Figures] = defaultdict(_Figures)
    for sample in _samples():
        if sample.labels.get("model") and sample.labels.get("version"):
            figures[sample.labels["model"], int(sample.labels["version"])].add(sample)
    return [
        figures[key].statistics(key)
        for key in sorted(figures)
        if model is None or (key[0] == model and (versions is None or key[1] in versions))
    ]


class _Figures:
    def __init__(self) -> None:
        self._success = self._fail = 0
        self._seconds = 0.0

    def add(self, sample: Sample) -> None:
        match sample.name:
            case "gateway_requests_total" if sample.labels["status"].startswith("2"):
                self._success += int(sample.value)
            case "gateway_requests_total":
                self._fail += int(sample.value)
            case "gateway_request_seconds_sum":
                self._seconds += sample.value

    def statistics(self, key: VersionKey) -> ModelStatistics:
        return ModelStatistics(
            name=key[0],
            version=str(key[1]),
            inference_count=self._success,
            execution_count=self._success,
            inference_stats=InferenceStatistics(
                success=Duration(self._success, int(self._seconds * _NS)),
                fail=Duration(self._fail, 0),
                queue=Duration(),
                compute_input=Duration(),
                compute_infer=Duration(),
                compute_output=Duration(),
            ),
        )


def _samples() -> Iterable[Sample]:
    metrics: Iterable[Metric] = all_metrics().collect()
    for metric in metrics:
        yield from metric.samples
