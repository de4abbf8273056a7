"""The memory that model hosts share: promised before a load, measured after it, made by letting spare versions leave.

Who leaves for whom is `version_policy.make_room`'s to say.
"""

import asyncio
from collections.abc import Callable, Mapping

from gateway.pool.host_limits import held_bytes, human
from gateway.pool.hosts import HostProcess, LoadFailed
from gateway.pool.machine import memory_for_models
from gateway.pool.version_policy import DoesNotFit, Evict, Fits, Resident, SlotState, Standing, make_room, overgrown
from gateway.pool.version_slot import VersionSlot
from registry.entities import VersionKey

# The least that was measured: 7 MiB of its own for a python_function of nothing, and a byte of arrays for a byte of
# files, with scikit-learn and torch. A torch host takes 130 MiB more, a forest with its faster equivalent 7 times its
# files, and each some part of its flavor's libraries.
_HOST_BYTES = 7 * 1024**2
# What versions took is remembered by their digests, for those that come and go.
_MEASURED_MAX = 1_000


class VersionDoesNotFit(LoadFailed):
    def __init__(self, key: VersionKey, wanted_bytes: int, available_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"Version {key[1]} of {key[0]!r} takes {human(wanted_bytes)} of memory. Of the {human(bytes_max)} that "
            f"models may take together (TITLEBOUT_MEMORY_BYTES_MAX), {human(available_bytes)} can be had beside those "
            "that are needed. It is loaded as soon as there is room."
        )


def expected_bytes(files_bytes: int) -> int:
    """What a version of *files_bytes* of files takes at least, for want of a measurement.

    The least and not the likely: what is refused here is never loaded, and so never measured. What turns out to take
    more is found out before it serves.
    """
    return _HOST_BYTES + files_bytes


class MemoryBudget:
    """*bytes_max* for all of *slots* together, 0 for most of what the machine has.

    *evict* begins to unload a slot, and says why.
    """

    def __init__(
        self,
        bytes_max: int,
        slots: Mapping[VersionKey, VersionSlot],
        *,
        last_used_s: Callable[[VersionSlot], float],
        evict: Callable[[VersionSlot, str], None],
    ) -> None:
        self._bytes_max = memory_for_models(bytes_max)
        self._slots = slots
        self._last_used_s = last_used_s
        self._evict = evict
        self._measured: dict[str, int] = {}

    async def promise(self, slot: VersionSlot, digest: str, files_bytes: int) -> None:
        """Have room for a version that is about to be loaded: what it took the last time, or is expected to take.

        Raises:
            VersionDoesNotFit: if nothing that may leave makes room enough.
        """
        await self._make_room(slot, self._measured.get(digest) or expected_bytes(files_bytes))

    async def settle(self, slot: VersionSlot, host: HostProcess) -> None:
        """Hold a version that has just been loaded to what it really takes.

        Raises:
            VersionDoesNotFit: if that is more than there is room for.
        """
        if await self._measure(slot, host):
            self.remember(slot, slot.memory_bytes)
            await self._make_room(slot, slot.memory_bytes)

    def remember(self, slot: VersionSlot, taken_bytes: int) -> None:
        """Expect *taken_bytes* of the same files the next time.

        What they take when they have just been loaded, or were ended for while they were: not what a host has leaked
        since.
        """
        if slot.digest is not None:
            self._measured.pop(slot.digest, None)
            self._measured[slot.digest] = taken_bytes
            if len(self._measured) > _MEASURED_MAX:
                del self._measured[next(iter(self._measured))]

    def lacks_room(self, slot: VersionSlot) -> bool:
        """Whether *slot* had to leave, or was refused, and there still is no room for it."""
        wanted_bytes = slot.room_wanted_bytes
        return wanted_bytes is not None and isinstance(self._room_for(slot, wanted_bytes), DoesNotFit)

    async def keep_to_the_bound(self) -> None:
        """Measure what is in memory, and let spare versions leave if it has grown over the bound."""
        await self._measure_all()
        for key in overgrown(self._residents(), bytes_max=self._bytes_max):
            self._evict(self._slots[key], "It left because what is in memory has grown over the bound.")

    async def _make_room(self, slot: VersionSlot, wanted_bytes: int) -> None:
        # Promised first, so that of two that come up at once each counts the other.
        slot.memory_bytes = wanted_bytes
        while not isinstance(decision := self._room_for(slot, wanted_bytes), Fits):
            if isinstance(decision, Evict):
                for key in decision.keys:
                    self._evict(self._slots[key], f"It left memory to version {slot.key[1]} of {slot.key[0]!r}.")
                await self._until_one_has_left()
            else:
                slot.room_wanted_bytes = wanted_bytes
                raise VersionDoesNotFit(slot.key, wanted_bytes, decision.available_bytes, self._bytes_max)

    async def _until_one_has_left(self) -> None:
        leaving = [slot.task for slot in self._slots.values() if slot.task and slot.standing is Standing.LEAVING]
        await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        # What it shared with others of its flavor is theirs now.
        await self._measure_all()

    def _room_for(self, slot: VersionSlot, wanted_bytes: int) -> Fits | Evict | DoesNotFit:
        return make_room(wanted_bytes, self._residents(but=slot), bytes_max=self._bytes_max, is_needed=slot.is_needed)

    def _residents(self, but: VersionSlot | None = None) -> list[Resident]:
        return [
            Resident(slot.key, slot.memory_bytes, slot.standing, self._last_used_s(slot))
            for slot in self._slots.values()
            if slot is not but and slot.memory_bytes
        ]

    async def _measure_all(self) -> None:
        for slot in list(self._slots.values()):
            if slot.state is SlotState.READY and slot.host is not None:
                await self._measure(slot, slot.host)

    async def _measure(self, slot: VersionSlot, host: HostProcess) -> bool:
        """Count *slot* as what its *host* takes now; whether that could be told."""
        taken = 0 if host.pid is None else await asyncio.to_thread(held_bytes, host.pid)
        # Nothing is what a process takes that has just ended.
        if not taken or slot.host is not host:
            return False
        slot.memory_bytes = taken
        return True
