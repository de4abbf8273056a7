"""A rollout as it is watched from the command line: a line for each step, until it ends, and one that is always new."""

import time
from typing import Any

import msgspec
from rich.console import Console

from gateway.cli.client import Client, ServerUnavailable, ServerUnreachable
from gateway.cli.progress import live_line
from registry.rollout_entities import Rollout, RolloutState
from tracking.errors import Conflict

_POLL_S = 0.5


class PutBack(Conflict):
    """It ended, and the version isn't champion."""

    def __init__(self, rollout: Rollout) -> None:
        super().__init__(
            f"Version {rollout.version} was not rolled out: {rollout.state.replace('_', ' ')}; {rollout.reason}"
        )


class Superseded(Conflict):
    def __init__(self, endpoint: str) -> None:
        super().__init__(f"Another rollout runs on endpoint {endpoint!r} by now, so this one isn't followed any more.")


def follow(client: Client, console: Console, endpoint: str, rollout_id: str) -> None:
    """Show each step with its reason until the end; a server that is away meanwhile is waited for.

    Raises:
        PutBack: if everything is as it was before.
        Superseded: if it ended and another one was begun unseen.
    """
    said = None
    with live_line(console) as show:
        while True:
            try:
                rollout = msgspec.convert(client.rollout(endpoint), Rollout)
            except (ServerUnreachable, ServerUnavailable):
                show("the server doesn't answer; it is asked again, and the rollout goes on with it")
            else:
                if rollout.id != rollout_id:
                    raise Superseded(endpoint)
                if (rollout.state, rollout.step) != said:
                    said = (rollout.state, rollout.step)
                    console.print(line_of(rollout))
                if rollout.ended_ms is not None:
                    break
                show(now_of(rollout, now_ms=int(time.time() * 1000)))
            time.sleep(_POLL_S)
    if rollout.state is not RolloutState.SUCCEEDED:
        raise PutBack(rollout)


def line_of(rollout: Rollout) -> str:
    """Where it is, and why, in one line."""
    at = time.strftime("%H:%M:%S", time.localtime(rollout.updated_ms / 1000))
    return (
        f"{at}  {rollout.endpoint} version {rollout.version}  {rollout.state.replace('_', ' ')}, {_step(rollout)}: "
        f"{rollout.reason}"
    )


def now_of(rollout: Rollout, *, now_ms: int) -> str:
    """What can be said of it at any moment; *now_ms* is our own clock, which may be a little off the database's."""
    return "  ".join(filter(None, (_step(rollout), _time_left(rollout, now_ms), *_seen(rollout.evidence))))


def _step(rollout: Rollout) -> str:
    steps = len(rollout.spec.steps_bp)
    return f"step {rollout.step} of {steps} ({rollout.share_bp / 100:g} %)" if rollout.step else "loading"


def _time_left(rollout: Rollout, now_ms: int) -> str:
    match rollout.state:
        case RolloutState.WATCHING if rollout.watch is not None and rollout.served_ms is not None:
            left_s = rollout.spec.watch_s - (now_ms - rollout.watch.began_ms) / 1000
            return f"watched, {_clock(left_s)} left"
        case RolloutState.RUNNING if rollout.step and rollout.served_ms is not None:
            left_s = rollout.spec.every_s - (now_ms - rollout.served_ms) / 1000
            return f"{_clock(left_s)} left" if left_s > 0 else "its time is over"
        case RolloutState.RUNNING | RolloutState.WATCHING:
            return rollout.reason if rollout.step == 0 else "on its way into force"
        case RolloutState.WAITING:
            return "waits for a person: resume, abort or promote"
        case state:
            return state.replace("_", " ")


def _clock(left_s: float) -> str:
    minutes, seconds = divmod(max(0, round(left_s)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _seen(evidence: dict[str, Any]) -> list[str]:
    """How many requests there were, and how each guard and the metric stand."""
    requests = evidence.get("requests")
    return [
        *([] if requests is None else [f"{requests:,.0f} requests"]),
        *(f"{finding['name']} {finding['standing']}" for finding in evidence.get("findings", ())),
        *(f"{name} {bad:,.0f}" for name, bad in evidence.get("bad", {}).items()),
    ]
