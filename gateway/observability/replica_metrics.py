"""What the supervisor tells of its replica: slots, hosts, loads, the epoch. Also keeps the counts of ended workers."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from gateway.comparison.judge import Standing
from gateway.observability import change_metrics, comparison_metrics, rollout_metrics, split_metrics
from gateway.observability.metrics import SUPERVISOR, Family, Key, Kind, Labels, Metrics, MetricsFolder, worker_name
from gateway.pool.processor_time import processor_s
from gateway.pool.version_policy import SlotState
from registry.entities import RoutingTable, SlotStatus, VersionKey
from registry.rollout_entities import Rollout

_INTERVAL_S = 1.0

EPOCH = Family("gateway_epoch", "Epoch of the routing table, the oldest that a worker answers from.", Kind.GAUGE)
SLOTS = Family("gateway_slots", "Versions by the state that they are in.", Kind.GAUGE, ("state",))
HOST_MEMORY = Family("gateway_host_memory_bytes", "Memory of a version's process.", Kind.GAUGE, ("model", "version"))
HOST_CPU = Family(
    "gateway_host_cpu_seconds",
    "Processor time of a version's process since it began.",
    Kind.GAUGE,
    ("model", "version"),
)
PREDICTOR = Family(
    "gateway_predictor_info",
    "1 for the code that answers for a version, and why it is no faster one.",
    Kind.GAUGE,
    ("model", "version", "flavor", "predictor", "reason"),
)
LOAD_SECONDS = Family(
    "gateway_load_seconds",
    "Time from the decision to load a version until it was READY, or FAILED.",
    Kind.HISTOGRAM,
    ("model", "version", "outcome"),
    (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
_ENDS_OF_A_LOAD = {SlotState.READY, SlotState.FAILED}


class ReplicaMetrics:
    def __init__(
        self,
        folder: MetricsFolder,
        *,
        statuses: Callable[[], Iterable[SlotStatus]],
        host_pids: Callable[[], Mapping[VersionKey, int]],
        table: Callable[[], RoutingTable],
        epoch: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._statuses = statuses
        self._host_pids = host_pids
        self._table = table
        self._epoch = epoch
        self._clock = clock
        self._metrics = Metrics()
        self._loading_since_s: dict[VersionKey, float] = {}

    def slot_changed(self, key: VersionKey, state: SlotState, now_s: float) -> None:
        """Take note of a slot's new state, for how long loads take."""
        if state is SlotState.FETCHING:
            self._loading_since_s[key] = now_s
            return
        since_s = self._loading_since_s.pop(key, None) if state in _ENDS_OF_A_LOAD else None
        if since_s is not None:
            outcome = "ready" if state is SlotState.READY else "failed"
            self._metrics.distribution(LOAD_SECONDS, *_labels(key), outcome).observe(now_s - since_s)

    def worker_ended(self, pid: int) -> None:
        """Keep the counts of a worker that has ended, so that no sum goes down."""
        name = worker_name(pid)
        snapshot = self._folder.read(name)
        if snapshot is not None:
            self._metrics.add(snapshot)
            self._write(replaces=[name])
            self._folder.remove(name)

    def judged(self, standings: Iterable[Standing]) -> None:
        """Tell what is concluded of challengers."""
        comparison_metrics.show(self._metrics, standings)

    def rolling_out(self, rollouts: Iterable[Rollout]) -> None:
        """Tell how far rollouts are."""
        rollout_metrics.show(self._metrics, rollouts)

    def changed(self, counts: Mapping[str, int]) -> None:
        """Count what was done to what is served."""
        change_metrics.add(self._metrics, counts)

    async def run(self) -> None:
        """Write what there is to tell, until cancelled."""
        while True:
            self._look()
            self._write()
            await asyncio.sleep(_INTERVAL_S)

    def _look(self) -> None:
        statuses = list(self._statuses())
        states = Counter(status.state for status in statuses)
        self._metrics.set_gauges(EPOCH, {(): float(self._epoch())})
        self._metrics.set_gauges(SLOTS, {(state.value,): float(states[state]) for state in SlotState})
        self._metrics.set_gauges(
            HOST_MEMORY,
            {_labels((one.model, one.version)): float(one.memory_bytes) for one in statuses if one.memory_bytes},
        )
        split_metrics.show(self._metrics, self._table().routes)
        self._metrics.set_gauges(HOST_CPU, {_labels(key): processor_s(pid) for key, pid in self._host_pids().items()})
        self._metrics.set_gauges(PREDICTOR, {_predictor(one): 1.0 for one in statuses if one.predictor})
        self._metrics.forget_gone((_labels((one.model, one.version)) for one in statuses), self._clock())

    def _write(self, replaces: Iterable[str] = ()) -> None:
        self._folder.write(SUPERVISOR, self._metrics.snapshot(replaces))


def _labels(key: VersionKey) -> Key:
    return key[0], str(key[1])


def _predictor(status: SlotStatus) -> Labels:
    return (
        *_labels((status.model, status.version)),
        status.flavor or "",
        status.predictor or "",
        status.predictor_reason or "",
    )
