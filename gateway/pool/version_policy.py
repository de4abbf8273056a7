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


class Aspired(msgspec.Struct, frozen=True):
    """(model, version) that should be in memory."""

    needed: frozenset[VersionKey]
    """An arm's alias means it, or a table that is answered from names it."""
    spare: frozenset[VersionKey]
    """Only a pin or a former champion's warm time asks for it: the first to leave when memory is short."""

    @property
    def all(self) -> frozenset[VersionKey]:
        return self.needed | self.spare


class Slot(msgspec.Struct, frozen=True):
    """One version as the policy sees it."""

    version: int
    state: SlotState
    aspired: bool
    retry_due: bool = False
    """Whether the pause after the last failure is over."""
    lacks_room: bool = False
    """Whether it had to leave, or was refused, for want of memory that there still isn't."""


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
) -> Aspired:
    """What should be in memory: arms, what is answered from, the former champion for a while, pins.

    *tables* are the newest, and with it those that a worker still answers from: a new epoch is committed some time
    before the instant at which it is switched to, and until then requests are sent to versions that it doesn't name.
    """
    needed = {(route.model, version) for table in tables for route in table.routes for version in route.arms.values()}
    spare = {(pin.model, pin.version) for pin in pins}
    for wish in desired:
        endpoint = wish.endpoint
        needed |= {(endpoint.model, version) for version in wish.versions.values()}
        if endpoint.former_champion is not None and now_ms - (endpoint.former_since_ms or 0) < warm_ms:
            spare.add((endpoint.model, endpoint.former_champion))
    return Aspired(frozenset(needed), frozenset(spare - needed))


def next_action(slots: Sequence[Slot]) -> Action | None:
    """The next step for the versions of one model, or None when it is settled or must wait.

    Availability before memory: what isn't wanted any more stays until nothing is on its way in. A load that failed
    doesn't hold anybody up: it is tried again when its pause is over, and what found no room when there is some.
    """
    to_load = [slot.version for slot in slots if slot.aspired and _may_load(slot)]
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


def _may_load(slot: Slot) -> bool:
    if slot.lacks_room:
        return False
    return slot.state in _NOT_IN_MEMORY or (slot.state is SlotState.FAILED and slot.retry_due)


# --- memory, over the versions of all models


class Standing(StrEnum):
    """What becomes of a version when memory is short."""

    STAYS = "stays"
    """An arm or a table needs it, or it is on its way in."""
    SPARE = "spare"
    """It may leave for one that is needed: a pin, a former champion, what nobody asks for any more."""
    LEAVING = "leaving"
    """It is being drained, and its memory is free in a moment."""


class Resident(msgspec.Struct, frozen=True):
    """A version that takes memory, or has been promised it."""

    key: VersionKey
    memory_bytes: int
    standing: Standing
    last_used_s: float


class Fits(msgspec.Struct, frozen=True):
    """There is room."""


class Evict(msgspec.Struct, frozen=True):
    """There is room once these have left, in this order, and those that are leaving already."""

    keys: tuple[VersionKey, ...]


class DoesNotFit(msgspec.Struct, frozen=True):
    """There is no room for it, whoever left; so nobody has to."""

    available_bytes: int
    """What it could have had."""


def make_room(
    wanted_bytes: int, residents: Sequence[Resident], *, bytes_max: int, is_needed: bool
) -> Fits | Evict | DoesNotFit:
    """How *wanted_bytes* more come into the memory that *residents* share.

    Spare ones leave, the least recently used first and no more than must, and only for one that is needed: what only a
    pin or a warm time asks for takes free room, or it and its like would chase each other out for ever.
    """
    free_bytes = bytes_max - sum(resident.memory_bytes for resident in residents)
    if wanted_bytes <= free_bytes:
        return Fits()
    free_bytes += sum(resident.memory_bytes for resident in residents if resident.standing is Standing.LEAVING)
    evicted: list[VersionKey] = []
    for resident in _spare_ones(residents) if is_needed else ():
        if wanted_bytes <= free_bytes:
            break
        evicted.append(resident.key)
        free_bytes += resident.memory_bytes
    return Evict(tuple(evicted)) if wanted_bytes <= free_bytes else DoesNotFit(max(free_bytes, 0))


def overgrown(residents: Sequence[Resident], *, bytes_max: int) -> tuple[VersionKey, ...]:
    """The spare ones that must leave because those in memory have grown over the bound together."""
    over_bytes = -bytes_max + sum(
        resident.memory_bytes for resident in residents if resident.standing is not Standing.LEAVING
    )
    evicted: list[VersionKey] = []
    for resident in _spare_ones(residents):
        if over_bytes <= 0:
            break
        evicted.append(resident.key)
        over_bytes -= resident.memory_bytes
    return tuple(evicted)


def _spare_ones(residents: Sequence[Resident]) -> list[Resident]:
    spare = [resident for resident in residents if resident.standing is Standing.SPARE]
    return sorted(spare, key=lambda resident: (resident.last_used_s, resident.key))
