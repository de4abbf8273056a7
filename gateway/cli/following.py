"""A flip as it is watched from the command line: a line for each replica, until all answer from the new version."""

import contextlib
import time
from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.client import Client, ServerUnavailable, ServerUnreachable
from registry.entities import CHAMPION, SlotStatus
from tracking.errors import Conflict, ErrorCode, ServingError

_POLL_S = 0.1


class Phase(StrEnum):
    """How far one replica is with one version, in the order in which it goes."""

    WAITING = "waiting"
    FETCHING = "fetching"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    SWITCHED = "switched"
    FAILED = "failed"


_WAY = (Phase.FETCHING, Phase.LOADING, Phase.WARMING, Phase.READY, Phase.SWITCHED)
_PHASE_OF_STATE = {
    "FETCHING": Phase.FETCHING,
    "LOADING": Phase.LOADING,
    "WARMING": Phase.WARMING,
    "READY": Phase.READY,
    "FAILED": Phase.FAILED,
}


class Flip(msgspec.Struct, frozen=True):
    """What is waited for: *arm* of *endpoint* answers from *version*."""

    endpoint: str
    model: str
    arm: str
    version: int


class Step(msgspec.Struct, frozen=True):
    """What a line says."""

    phase: Phase
    why: str = ""

    def __str__(self) -> str:
        return f"{self.phase}: {self.why}" if self.why else self.phase


class Replica(msgspec.Struct, frozen=True):
    """One live replica, as the API tells of it."""

    id: str
    epoch: int
    serving: dict[str, int]
    slots: tuple[SlotStatus, ...]

    def slot(self, flip: Flip) -> SlotStatus | None:
        return next((slot for slot in self.slots if slot.version == flip.version), None)

    def step(self, flip: Flip) -> "Step":
        slot, phase = self.slot(flip), self.phase(flip)
        return Step(phase, (slot.reason or "") if slot and phase is Phase.FAILED else "")

    def phase(self, flip: Flip) -> Phase:
        if self.serving.get(flip.arm) == flip.version:
            return Phase.SWITCHED
        slot = self.slot(flip)
        # On its way out, or not asked for yet: the replica has still to notice.
        return Phase.WAITING if slot is None else _PHASE_OF_STATE.get(slot.state, Phase.WAITING)


class Progress(msgspec.Struct, frozen=True):
    """One endpoint and its live replicas, as the API tells of them."""

    stopped: bool
    desired: dict[str, int]
    replicas: tuple[Replica, ...]

    def failures(self, flip: Flip) -> Iterator[tuple[str, int]]:
        """(replica, time) of each load that didn't work."""
        for replica in self.replicas:
            slot = replica.slot(flip)
            if slot is not None and replica.phase(flip) is Phase.FAILED:
                yield replica.id, slot.since_ms


class LoadFailedThere(ServingError):
    code = ErrorCode.INVALID_STATE

    def __init__(self, flip: Flip, replica: Replica) -> None:
        slot, serving = replica.slot(flip), replica.serving.get(flip.arm)
        reason = ((slot.reason if slot else None) or "no reason is known").rstrip(".")
        stays = "" if serving is None else f" Version {serving} goes on answering as {flip.arm}."
        back = f" `titlebout rollback {flip.endpoint}` takes this back." if flip.arm == CHAMPION and serving else ""
        super().__init__(
            f"Version {flip.version} of {flip.model!r} can't be loaded on {replica.id}: {reason}.{stays} It is tried "
            f"again by itself.{back}"
        )


class NotInTime(ServingError):
    code = ErrorCode.DEADLINE_EXCEEDED

    def __init__(self, flip: Flip, timeout_s: float, steps: dict[str, Step]) -> None:
        said = ", ".join(f"{replica} is {step}" for replica, step in steps.items()) or "no live replica is heard of"
        super().__init__(
            f"Version {flip.version} is not in force on every replica after {timeout_s:g} s: {said}. The alias stays "
            "set, and it goes on by itself; `titlebout status` shows how far it is."
        )


class Overtaken(Conflict):
    def __init__(self, flip: Flip, so: str) -> None:
        super().__init__(f"{so} by now, so version {flip.version} is not waited for any more.")


def failures_so_far(client: Client, flip: Flip) -> frozenset[tuple[str, int]]:
    """The failures that are no news: of a load that was tried before this flip was asked for."""
    return frozenset(_progress(client, flip).failures(flip))


def follow(
    client: Client,
    console: Console,
    flip: Flip,
    *,
    timeout_s: float,
    known_failures: frozenset[tuple[str, int]] = frozenset(),
) -> int:
    """Show each replica's way until all live ones answer from the version, and return the epoch in which they do.

    A server that is away meanwhile is waited for: what was asked of it stands.

    Raises:
        LoadFailedThere: if a replica tried to load it, and could not.
        Overtaken: if the alias means another version by now.
        NotInTime: if it takes longer than *timeout_s*.
    """
    deadline = time.monotonic() + timeout_s
    steps: dict[str, Step] = {}
    with _shown(console) as show:
        while True:
            with contextlib.suppress(ServerUnreachable, ServerUnavailable):
                progress = _progress(client, flip)
                steps = {replica.id: replica.step(flip) for replica in progress.replicas}
                show(steps)
                if steps and all(step.phase is Phase.SWITCHED for step in steps.values()):
                    return min(replica.epoch for replica in progress.replicas)
                _raise_if_in_vain(progress, flip, known_failures)
            if time.monotonic() > deadline:
                raise NotInTime(flip, timeout_s, steps)
            time.sleep(_POLL_S)


def _progress(client: Client, flip: Flip) -> Progress:
    return msgspec.convert(client.progress(flip.endpoint), Progress)


def _raise_if_in_vain(progress: Progress, flip: Flip, known_failures: frozenset[tuple[str, int]]) -> None:
    means = progress.desired.get(flip.arm)
    if progress.stopped:
        raise Overtaken(flip, f"Endpoint {flip.endpoint!r} is stopped")
    if means != flip.version:
        raise Overtaken(flip, f"{flip.model}@{flip.arm} " + (f"means version {means}" if means else "is gone"))
    for name, since_ms in progress.failures(flip):
        if (name, since_ms) not in known_failures:
            replica = next(replica for replica in progress.replicas if replica.id == name)
            raise LoadFailedThere(flip, replica)


# --- what is seen of it


@contextlib.contextmanager
def _shown(console: Console) -> Iterator[Callable[[dict[str, Step]], None]]:
    """On a terminal a line a replica, which changes; elsewhere a line for each change."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=10) as live:
            yield lambda steps: live.update(_table(steps))
        return
    said: dict[str, Step] = {}

    def say(steps: dict[str, Step]) -> None:
        for replica, step in steps.items():
            if said.get(replica) != step:
                said[replica] = step
                console.print(f"{replica}  {step}", soft_wrap=True, highlight=False, markup=False)

    yield say


def _table(steps: dict[str, Step]) -> Table:
    table = Table.grid(padding=(0, 2))
    for replica, step in steps.items():
        table.add_row(replica, _way(step))
    return table


def _way(step: Step) -> Text:
    """The whole way, with what lies behind, what is now and what is to come in colours of their own."""
    if step.phase not in _WAY:
        return Text(str(step), "red" if step.phase is Phase.FAILED else "dim")
    reached = _WAY.index(step.phase)
    now = "green" if step.phase is Phase.SWITCHED else "bold yellow"
    styles = ["green"] * reached + [now] + ["dim"] * (len(_WAY) - reached - 1)
    return Text("  ").join(Text(phase, style) for phase, style in zip(_WAY, styles, strict=True))
