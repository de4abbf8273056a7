"""The metrics of all processes of a replica, as one text for Prometheus."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.observability.metrics import Family, Kind, Metrics, MetricsFolder, Sample


class AllMetrics(Collector):
    """What all processes of the replica have counted; *refresh* has this one write down its own first."""

    def __init__(self, folder: MetricsFolder, refresh: Callable[[], None]) -> None:
        self._folder = folder
        self._refresh = refresh

    def text(self) -> bytes:
        """In Prometheus's text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        self._refresh()
        snapshots = self._folder.read_all()
        counts = Metrics()
        for snapshot in snapshots:
            counts.add(snapshot)
        # Gauges come from one process each.
        gauges = (part for one in snapshots for part in one.families if part.family.kind is Kind.GAUGE)
        for part in (*counts.snapshot().families, *gauges):
            yield _metric(part.family, part.samples)


def _metric(family: Family, samples: Iterable[Sample]) -> Metric:
    match family.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for sample in samples:
                counter.add_metric(sample.labels, sample.value)
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for sample in samples:
                gauge.add_metric(sample.labels, sample.value)
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            bounds = [*map(floatToGoString, family.bounds), "+Inf"]
            for sample in samples:
                buckets = list(zip(bounds, accumulate(sample.counts), strict=True))
                histogram.add_metric(sample.labels, buckets, sample.value)
            return histogram
