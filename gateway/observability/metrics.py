"""What is counted: in this process's memory, and in files by which the processes of a replica know each other's.

Nothing here costs a prediction more than a few additions. A metric of several processes kept by prometheus_client costs
it 2 to 6 µs for each observation, can't forget a version that is gone, and can't be had without importing it, which
the supervisor has no other use for. `gateway.observability.exposition` makes Prometheus's text of the files.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import get_ident

import msgspec

Labels = tuple[str, ...]
Key = tuple[str, str]
"""A model's name and a version's number, as labels have them."""

_INTERVAL_S = 1.0
_FORGET_AFTER_S = 600.0
_WRITES_FOR_A_LOOK = 60
_SUFFIX = ".metrics"
SUPERVISOR = "supervisor"
"""The process that takes over the counts of those that have ended."""


def worker_name(pid: int) -> str:
    return f"worker-{pid}"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(msgspec.Struct, frozen=True):
    """One metric: its name, and which labels tell its series apart."""

    name: str
    help: str
    kind: Kind
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets; above the last there is one more."""


class Number:
    """A counter's or a gauge's series."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0) -> None:
        self.value = value

    def add(self, count: float = 1) -> None:
        self.value += count


class Distribution:
    """A histogram's series."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Sample(msgspec.Struct, frozen=True):
    """One series at one instant."""

    labels: Labels
    value: float
    """Of a histogram the sum of what was observed."""
    counts: list[int] = []


class FamilySamples(msgspec.Struct, frozen=True):
    family: Family
    samples: list[Sample]


class Snapshot(msgspec.Struct, frozen=True):
    """All metrics of one process at one instant."""

    families: list[FamilySamples] = []
    replaces: list[str] = []
    """Processes that have ended, whose last counts are in these."""


class Metrics:
    """The metrics of this process."""

    def __init__(self) -> None:
        self._numbers: dict[Family, dict[Labels, Number]] = {}
        self._distributions: dict[Family, dict[Labels, Distribution]] = {}
        self._gone_since_s: dict[Key, float] = {}
        self.when_forgotten: Callable[[], None] = lambda: None
        """Called when series were dropped: whoever keeps some at hand must ask for them again."""

    def number(self, family: Family, *labels: str) -> Number:
        series = self._numbers.setdefault(family, {})
        return series.get(labels) or series.setdefault(labels, Number())

    def distribution(self, family: Family, *labels: str) -> Distribution:
        series = self._distributions.setdefault(family, {})
        return series.get(labels) or series.setdefault(labels, Distribution(family.bounds))

    def set_gauges(self, family: Family, values: Mapping[Labels, float]) -> None:
        """Have *family* be just these series."""
        self._numbers[family] = {labels: Number(value) for labels, value in values.items()}

    def snapshot(self, replaces: Iterable[str] = ()) -> Snapshot:
        """All of them as they are now. May be called from another thread, hence the lists."""
        numbers = (
            FamilySamples(family, [Sample(labels, one.value) for labels, one in list(series.items())])
            for family, series in list(self._numbers.items())
        )
        distributions = (
            FamilySamples(family, [Sample(labels, one.total, list(one.counts)) for labels, one in list(series.items())])
            for family, series in list(self._distributions.items())
        )
        return Snapshot([*numbers, *distributions], list(replaces))

    def add(self, snapshot: Snapshot) -> None:
        """Count what *snapshot* has counted as well. Its gauges are passed over: they say what was."""
        for part in snapshot.families:
            for sample in part.samples:
                match part.family.kind:
                    case Kind.COUNTER:
                        self.number(part.family, *sample.labels).add(sample.value)
                    case Kind.HISTOGRAM:
                        distribution = self.distribution(part.family, *sample.labels)
                        distribution.total += sample.value
                        for place, count in enumerate(sample.counts):
                            distribution.counts[place] += count

    def forget_gone(self, held: Iterable[Key], now_s: float) -> None:
        """Drop the series of versions that have not been among *held* for ten minutes.

        Not at once: what they did last is still to be scraped.
        """
        seen = {key for family, labels in self._all_labels() if (key := _key_of(family, labels)) is not None}
        gone = seen - set(held)
        self._gone_since_s = {key: self._gone_since_s.get(key, now_s) for key in gone}
        doomed = {key for key, since_s in self._gone_since_s.items() if now_s - since_s >= _FORGET_AFTER_S}
        if doomed:
            self._drop(doomed)
            self.when_forgotten()

    def _drop(self, doomed: set[Key]) -> None:
        for family, labels in list(self._all_labels()):
            if _key_of(family, labels) in doomed:
                self._numbers.get(family, {}).pop(labels, None)
                self._distributions.get(family, {}).pop(labels, None)

    def _all_labels(self) -> Iterable[tuple[Family, Labels]]:
        for families in (self._numbers, self._distributions):
            for family, series in families.items():
                yield from ((family, labels) for labels in series)


def _key_of(family: Family, labels: Labels) -> Key | None:
    """The version that a series is about; None if it is about none."""
    if "model" not in family.labels or "version" not in family.labels:
        return None
    key = labels[family.labels.index("model")], labels[family.labels.index("version")]
    return key if any(key) else None


# --- files


class MetricsFolder:
    """One file for each process of the replica, by its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, snapshot: Snapshot) -> None:
        """Replace the file of *name* whole, so that nobody reads half of one."""
        partial = self._folder / f"{name}-{get_ident()}.partial"
        partial.write_bytes(msgspec.msgpack.encode(snapshot))
        partial.replace(self._folder / (name + _SUFFIX))

    def read(self, name: str) -> Snapshot | None:
        """What the process *name* wrote last; None if it wrote nothing, or is done with."""
        try:
            return msgspec.msgpack.decode((self._folder / (name + _SUFFIX)).read_bytes(), type=Snapshot)
        except (OSError, msgspec.MsgspecError):
            return None

    def remove(self, name: str) -> None:
        with suppress(OSError):
            (self._folder / (name + _SUFFIX)).unlink()

    def read_all(self) -> list[Snapshot]:
        """What all processes wrote last; those that have ended count once, in whoever took over their counts."""
        names = [path.name.removesuffix(_SUFFIX) for path in self._folder.glob("*" + _SUFFIX)]
        # The one that takes over comes last: a file that is gone by now is then already in its counts.
        names.sort(key=SUPERVISOR.__eq__)
        snapshots = {name: snapshot for name in names if (snapshot := self.read(name)) is not None}
        replaced = {name for snapshot in snapshots.values() for name in snapshot.replaces}
        return [snapshot for name, snapshot in snapshots.items() if name not in replaced]


async def keep_written(
    metrics: Metrics,
    folder: MetricsFolder,
    name: str,
    *,
    held: Callable[[], Iterable[Key]],
    clock: Callable[[], float],
) -> None:
    """Write the process's own file every second, without the versions that have long not been among *held*."""
    while True:
        metrics.forget_gone(held(), clock())
        for _ in range(_WRITES_FOR_A_LOOK):
            await asyncio.sleep(_INTERVAL_S)
            folder.write(name, metrics.snapshot())
