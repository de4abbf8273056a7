"""What should be in memory, and the next step towards it. Pure: values in, at most one action out, no clock."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from registry.entities import DesiredRoute, Pin, RoutingTable, VersionKey


class SlotState(StrEnum):
    """The life of one version in one replica.

    NEW → FETCHING → LOADING → WARMING → READY → DRAINING → UNLOADED → FETCHING if it is wanted again; from any state
    on the way to READY, and from READY if its process ends: → FAILED → FETCHING.
    """

    NEW = "NEW"
    FETCHING = "FETCHING"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


_NOT_IN_MEMORY = frozenset({SlotState.NEW, SlotState.UNLOADED})
IN_PROGRESS = frozenset({SlotState.FETCHING, SlotState.LOADING, SlotState.WARMING})


class Slot(msgspec.Struct, frozen=True):
    """One version as the policy sees it."""

    version: int
    state: SlotState
    aspired: bool
    retry_due: bool = False
    """Whether the pause after the last failure is over."""


class Load(msgspec.Struct, frozen=True):
    version: int


class Unload(msgspec.Struct, frozen=True):
    version: int


class Forget(msgspec.Struct, frozen=True):
    """Drop the memory of a failure that nobody waits for any more."""

    version: int


Action = Load | Unload | Forget


def aspired_versions(
    desired: Iterable[DesiredRoute], tables: Iterable[RoutingTable], pins: Iterable[Pin], *, now_ms: int, warm_ms: int
) -> frozenset[VersionKey]:
    """(model, version) that should be in memory: arms, what is answered from, the former champion for a while, pins.

    *tables* are the newest, and with it those that a worker still answers from: a new epoch is committed some time
    before the instant at which it is switched to, and until then requests are sent to versions that it doesn't name.
    """
    wanted = {(route.model, version) for table in tables for route in table.routes for version in route.arms.values()}
    wanted |= {(pin.model, pin.version) for pin in pins}
    for wish in desired:
        endpoint = wish.endpoint
        wanted |= {(endpoint.model, version) for version in wish.versions.values()}
        if endpoint.former_champion is not None and now_ms - (endpoint.former_since_ms or 0) < warm_ms:
            wanted.add((endpoint.model, endpoint.former_champion))
    return frozenset(wanted)


def next_action(slots: Sequence[Slot]) -> Action | None:
    """The next step for the versions of one model, or None when it is settled or must wait.

    Availability before memory: what isn't wanted any more stays until nothing is on its way in. A load that failed
    doesn't hold anybody up: it is tried again when its pause is over.
    """
    to_load = [
        slot.version
        for slot in slots
        if slot.aspired and (slot.state in _NOT_IN_MEMORY or (slot.state is SlotState.FAILED and slot.retry_due))
    ]
    if to_load:
        return Load(max(to_load))
    if any(slot.state in IN_PROGRESS for slot in slots):
        return None
    for slot in sorted(slots, key=lambda slot: slot.version):
        if not slot.aspired and slot.state is SlotState.READY:
            return Unload(slot.version)
        if not slot.aspired and slot.state in _NOT_IN_MEMORY | {SlotState.FAILED}:
            return Forget(slot.version)
    return None
