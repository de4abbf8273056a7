"""A rollout as it is watched from the command line: a line for each step, until it ends."""

import contextlib
import time

import msgspec
from rich.console import Console

from gateway.cli.client import Client, ServerUnavailable, ServerUnreachable
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
    with console.status("") as status:
        while True:
            with contextlib.suppress(ServerUnreachable, ServerUnavailable):
                rollout = msgspec.convert(client.rollout(endpoint), Rollout)
                if rollout.id != rollout_id:
                    raise Superseded(endpoint)
                if (rollout.state, rollout.step) != said:
                    said = (rollout.state, rollout.step)
                    console.print(line_of(rollout))
                status.update(rollout.reason)
                if rollout.ended_ms is not None:
                    break
            time.sleep(_POLL_S)
    if rollout.state is not RolloutState.SUCCEEDED:
        raise PutBack(rollout)


def line_of(rollout: Rollout) -> str:
    """Where it is, and why, in one line."""
    at = time.strftime("%H:%M:%S", time.localtime(rollout.updated_ms / 1000))
    steps = len(rollout.spec.steps_bp)
    step = f"step {rollout.step} of {steps} ({rollout.share_bp / 100:g} %)" if rollout.step else "loading"
    return (
        f"{at}  {rollout.endpoint} version {rollout.version}  {rollout.state.replace('_', ' ')}, {step}: "
        f"{rollout.reason}"
    )
