"""Rollouts that run, as gauges. Every replica tells of all, whichever of them acts."""

from collections.abc import Iterable

from gateway.observability.metrics import Family, Kind, Labels, Metrics
from registry.rollout_entities import Rollout

_ROLLOUT = ("endpoint", "model", "version")

STEP = Family(
    "gateway_rollout_step", "Step that a rollout is at; 0 until its version is in memory.", Kind.GAUGE, _ROLLOUT
)
STATE = Family("gateway_rollout_state", "1 for the state that a rollout is in.", Kind.GAUGE, (*_ROLLOUT, "state"))


def show(metrics: Metrics, rollouts: Iterable[Rollout]) -> None:
    """Have the gauges be of just these."""
    running = {_labels(rollout): rollout for rollout in rollouts}
    metrics.set_gauges(STEP, {labels: float(rollout.step) for labels, rollout in running.items()})
    metrics.set_gauges(STATE, {(*labels, rollout.state.value): 1.0 for labels, rollout in running.items()})


def _labels(rollout: Rollout) -> Labels:
    return rollout.endpoint, rollout.model, str(rollout.version)
