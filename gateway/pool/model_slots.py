"""The versions in this replica's memory, and the work of bringing each up and letting it go.

What should happen next is `version_policy.next_action`'s to say; this file does it, and never reads the registry.
"""

import asyncio
import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

from gateway.pool.back_off import ENDS_COUNTED_S, pause_after_end_s, pause_after_load_s
from gateway.pool.fetching import FetchedModel, Fetcher, VersionHasNoFiles
from gateway.pool.hosts import HostForged, HostOverMemory, HostProcess, HostStuck, LacksSignature, WarmParents
from gateway.pool.memory_budget import MemoryBudget
from gateway.pool.messages import HostAddress, Spawn
from gateway.pool.version_policy import IN_PROGRESS, Aspired, Forget, Load, Slot, SlotState, Unload, next_action
from gateway.pool.version_slot import VersionSlot
from gateway.settings import Settings
from registry.entities import SlotStatus, VersionKey
from tracking.errors import ServingError, TemporarilyUnavailable

_log = logging.getLogger(__name__)

# A load that keeps a core busy shouldn't keep them all busy.
_LOADS_AT_ONCE_MAX = 2
_STOP_TIMEOUT_S = 5.0
# Longest pauses where a try costs next to nothing: files that are still being sent; a store that is away, which comes
# back without a word; a signature that somebody is about to give.
_UNTIL_FILES_S = 10.0
_UNTIL_BACK_S = 2.0
_UNTIL_SIGNED_S = 10.0
# Reading what a large process takes costs milliseconds of the kernel's time.
_MEMORY_INTERVAL_S = 5.0


class Connections(Protocol):
    """Who uses the hosts: the HTTP workers."""

    def set_hosts(self, hosts: Iterable[HostAddress]) -> None:
        """Tell all workers, now and later, which hosts they should be connected to."""

    async def until_connected(self, socket: str) -> None:
        """Wait until every worker is connected to *socket*."""

    async def until_left(self, socket: str) -> None:
        """Wait until no worker uses *socket* any more."""

    def last_used_s(self, socket: str) -> float:
        """When a worker last asked the host at *socket*, to a few seconds; 0 for never."""
        ...


class ModelSlots:
    """All slots of this replica."""

    def __init__(
        self,
        settings: Settings,
        *,
        fetcher: Fetcher,
        parents: WarmParents,
        connections: Connections,
        run_dir: Path,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._parents = parents
        self._connections = connections
        self._run_dir = run_dir
        self._clock = clock
        self._changed = changed
        self._slots: dict[VersionKey, VersionSlot] = {}
        self._loading = asyncio.Semaphore(_LOADS_AT_ONCE_MAX)
        self._sockets_made = 0
        self._registered: Mapping[VersionKey, str | None] = {}
        self._memory = MemoryBudget(
            settings.memory_bytes_max, self._slots, last_used_s=self._last_used_s, evict=self._evict
        )
        self._measuring: asyncio.Task[None] | None = None
        self._measured_at_s = clock()

        self.when_changed: Callable[[VersionKey, SlotState, float], None] = lambda _key, _state, _now_s: None
        """Called with each new state of a slot."""

    def statuses(self) -> list[SlotStatus]:
        return [slot.status() for slot in self._slots.values()]

    def host_pids(self) -> dict[VersionKey, int]:
        hosts = {key: slot.host for key, slot in self._slots.items()}
        return {key: host.pid for key, host in hosts.items() if host is not None and host.pid is not None}

    def ready(self) -> frozenset[VersionKey]:
        """Those that could serve now, with the bytes that they are registered with."""
        return frozenset(
            key
            for key, slot in self._slots.items()
            if slot.state is SlotState.READY and not self._holds_other_bytes(slot)
        )

    def failing(self) -> frozenset[VersionKey]:
        """Those whose last load did not work."""
        return frozenset(key for key, slot in self._slots.items() if slot.failures)

    def digests(self) -> dict[VersionKey, str]:
        return {key: slot.digest for key, slot in self._slots.items() if slot.digest is not None}

    def stop_stuck(self, socket: str) -> None:
        """End the host at *socket*, which doesn't answer any more; it is replaced like one that ended by itself."""
        for slot, host in self._hosts_at(socket):
            _log.error("host_stuck", extra={"model": slot.key[0], "version": slot.key[1], "pid": host.pid})
            host.kill(HostStuck(self._settings.predict_timeout_s))

    def stop_broken(self, socket: str) -> None:
        """The same for one that sends what is no frame: nothing that it says can be relied on."""
        for slot, host in self._hosts_at(socket):
            _log.error("host_broken", extra={"model": slot.key[0], "version": slot.key[1], "pid": host.pid})
            host.kill(HostForged())

    def _hosts_at(self, socket: str) -> list[tuple[VersionSlot, HostProcess]]:
        slots = [slot for slot in self._slots.values() if slot.address is not None and slot.address.socket == socket]
        return [(slot, slot.host) for slot in slots if slot.host is not None]

    def step_towards(self, aspired: Aspired, registered: Mapping[VersionKey, str | None]) -> None:
        """Begin whatever the policy says is next, for each model.

        *registered* are digests, as far as they are known: with one, a cached version loads without the database,
        and a slot that holds other bytes is let go and loaded anew.
        """
        self._registered = registered
        now_s = self._clock()
        for key in aspired.all - self._slots.keys():
            self._slots[key] = VersionSlot(key, now_s)
        self._note_needs(aspired.needed)
        by_model: dict[str, list[VersionSlot]] = defaultdict(list)
        for slot in self._slots.values():
            by_model[slot.key[0]].append(slot)
        for slots in by_model.values():
            self._take_steps_of(slots, aspired.all, now_s)
        self._look_at_memory(now_s)

    async def close(self) -> None:
        """Stop all hosts."""
        if self._measuring is not None:
            self._measuring.cancel()
        for slot in self._slots.values():
            if slot.task is not None and slot.state in IN_PROGRESS:
                slot.task.cancel()
        await asyncio.gather(*(slot.resources.aclose() for slot in self._slots.values()))

    def _note_needs(self, needed: frozenset[VersionKey]) -> None:
        for slot in self._slots.values():
            if slot.key in needed and not slot.is_needed:
                # An arm asks now for what only a pin did: the pause was meant for that.
                slot.retry_at_s = 0.0
            slot.is_needed = slot.key in needed

    def _take_steps_of(self, slots: list[VersionSlot], aspired: frozenset[VersionKey], now_s: float) -> None:
        while True:
            seen = [
                Slot(
                    slot.key[1],
                    slot.state,
                    aspired=slot.key in aspired
                    and not (slot.state is SlotState.READY and self._holds_other_bytes(slot)),
                    retry_due=now_s >= slot.retry_at_s,
                    lacks_room=self._memory.lacks_room(slot),
                )
                for slot in slots
            ]
            action = next_action(seen)
            if action is None:
                return
            slot = next(slot for slot in slots if slot.key[1] == action.version)
            match action:
                case Load():
                    self._change(slot, SlotState.FETCHING)
                    slot.task = asyncio.create_task(self._load(slot))
                case Unload():
                    self._change(slot, SlotState.DRAINING)
                    slot.task = asyncio.create_task(self._unload(slot))
                case Forget():
                    del self._slots[slot.key]
                    slots.remove(slot)

    def _holds_other_bytes(self, slot: VersionSlot) -> bool:
        # A name and a number mean other bytes once their model was deleted and made anew.
        registered = self._registered.get(slot.key)
        return registered is not None and slot.digest is not None and slot.digest != registered

    async def _load(self, slot: VersionSlot) -> None:
        started_s = self._clock()
        try:
            async with self._loading, asyncio.timeout(self._settings.load_timeout_s):
                await self._bring_up(slot)
        except TimeoutError:
            await self._failed(slot, f"It was not ready after {self._settings.load_timeout_s:g} s.")
        except HostOverMemory as error:
            # If that is more than all may take together, the next try is refused before it has loaded anything.
            self._memory.remember(slot, error.held_bytes)
            await self._failed(slot, error.message)
        except ServingError as error:
            await self._failed(slot, error.message, longest_s=_longest_pause_s(error))
        except Exception as error:  # An edge: whatever a load runs into is this version's failure alone.
            _log.exception("model_load_crashed", extra={"model": slot.key[0], "version": slot.key[1]})
            # Callers read this too: what the system says of a file, without where it lies on this machine.
            said = error.strerror if isinstance(error, OSError) else str(error)
            await self._failed(slot, f"{type(error).__name__}: {said}")
        else:
            slot.failures = 0
            self._change(slot, SlotState.READY, took_s=round(self._clock() - started_s, 3))
        self._changed()

    async def _bring_up(self, slot: VersionSlot) -> None:
        """Fetch, fork, load, warm up, and have every worker connected. What is acquired is the slot's to release."""
        slot.room_wanted_bytes = None
        fetched = await self._fetch(slot)
        slot.digest = fetched.digest
        await self._memory.promise(slot, fetched.digest, fetched.files_bytes)
        self._change(slot, SlotState.LOADING)
        socket = self._new_socket(slot)
        host = slot.host = await self._fork(slot, fetched, socket)
        description = await host.until_ready(partial(self._change, slot))
        for warning in description.warnings:
            _log.warning("model_warning", extra={"model": slot.key[0], "version": slot.key[1], "warning": warning})
        extra = {"model": slot.key[0], "version": slot.key[1], "pid": host.pid, **description.confinement}
        _log.info("host_confined", extra=extra)
        await self._memory.settle(slot, host)
        if fetched.unsettled is not None:
            await asyncio.to_thread(self._fetcher.settle, slot.key, fetched.unsettled)
        slot.address = HostAddress(model=slot.key[0], version=slot.key[1], socket=socket, description=description)
        self._publish_hosts()
        await _unless_ended(host, self._connections.until_connected(socket))
        watching = asyncio.create_task(self._watch(slot, host))
        slot.resources.callback(watching.cancel)

    async def _fetch(self, slot: VersionSlot) -> FetchedModel:
        manager = self._fetcher.fetched(slot.key, self._registered.get(slot.key))
        # Shielded, because a thread can't be stopped: a fetch that outlives its time-out must still be let go of.
        entering = asyncio.ensure_future(asyncio.to_thread(manager.__enter__))
        try:
            fetched = await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda done: None if done.exception() else manager.__exit__(None, None, None))
            raise
        slot.resources.callback(manager.__exit__, None, None, None)
        return fetched

    def _new_socket(self, slot: VersionSlot) -> str:
        self._sockets_made += 1
        path = self._run_dir / f"host-{self._sockets_made}.sock"
        slot.resources.callback(path.unlink, missing_ok=True)
        return str(path)

    async def _fork(self, slot: VersionSlot, fetched: FetchedModel, socket: str) -> HostProcess:
        spawn = Spawn(
            model=slot.key[0],
            version=slot.key[1],
            model_dir=str(fetched.folder),
            socket=socket,
            code_policy=self._settings.code_policy,
            verified=True,
            unsigned=fetched.unsigned,
            frame_bytes_max=self._settings.frame_bytes_max,
            acceleration=self._settings.acceleration,
            acceleration_timeout_s=self._settings.acceleration_timeout_s,
            converted_dir=str(fetched.converted),
        )
        host = await self._parents.spawn(fetched.flavor, spawn)
        slot.resources.push_async_callback(host.stop, _STOP_TIMEOUT_S)
        return host

    async def _watch(self, slot: VersionSlot, host: HostProcess) -> None:
        """A ready host that ends by itself is a failure of its version; the policy loads it again after a pause."""
        why = await host.ended()
        extra = {"model": slot.key[0], "version": slot.key[1], "pid": host.pid, "reason": why.message}
        _log.error("host_ended", extra=extra)
        slot.task = asyncio.create_task(self._failed(slot, why.message, pause_s=self._pause_after_end_s(slot)))

    async def _failed(
        self, slot: VersionSlot, reason: str, *, longest_s: float = math.inf, pause_s: float | None = None
    ) -> None:
        """Let go of what the slot holds, and pause before the next try, *longest_s* at most."""
        slot.address = slot.host = None
        self._publish_hosts()
        slot.failures += 1
        pause_s = self._pause_s(slot, longest_s) if pause_s is None else pause_s
        slot.retry_at_s = self._clock() + pause_s
        resources, slot.resources = slot.resources, AsyncExitStack()
        await resources.aclose()
        slot.memory_bytes = 0
        self._change(slot, SlotState.FAILED, reason=reason, next_try_in_s=pause_s)
        self._changed()

    def _pause_s(self, slot: VersionSlot, longest_s: float) -> float:
        if slot.room_wanted_bytes is not None:
            return 0.0  # It waits for room, and not for a time.
        longest_s = min(self._settings.retry_max_s, longest_s)
        return pause_after_load_s(slot.failures, first_s=self._settings.retry_first_s, longest_s=longest_s)

    def _pause_after_end_s(self, slot: VersionSlot) -> float:
        now_s = self._clock()
        slot.ends_s = [at_s for at_s in slot.ends_s if now_s - at_s < ENDS_COUNTED_S] + [now_s]
        return pause_after_end_s(
            len(slot.ends_s), first_s=self._settings.retry_first_s, longest_s=self._settings.retry_max_s
        )

    async def _unload(self, slot: VersionSlot, reason: str | None = None) -> None:
        address, slot.address = slot.address, None
        self._publish_hosts()
        if address is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain_timeout_s):
                    await self._connections.until_left(address.socket)
        await slot.resources.aclose()
        slot.resources, slot.host = AsyncExitStack(), None
        slot.memory_bytes = 0
        self._change(slot, SlotState.UNLOADED, reason=reason)
        self._changed()

    # --- memory

    def _look_at_memory(self, now_s: float) -> None:
        is_looking = self._measuring is not None and not self._measuring.done()
        if not is_looking and now_s - self._measured_at_s >= _MEMORY_INTERVAL_S:
            self._measured_at_s = now_s
            self._measuring = asyncio.create_task(self._memory.keep_to_the_bound())

    def _evict(self, slot: VersionSlot, reason: str) -> None:
        slot.room_wanted_bytes = slot.memory_bytes
        self._change(slot, SlotState.DRAINING)
        slot.task = asyncio.create_task(self._unload(slot, reason))

    def _last_used_s(self, slot: VersionSlot) -> float:
        # One that has just come counts as used, or it would be the first to leave.
        asked_s = self._connections.last_used_s(slot.address.socket) if slot.address else 0.0
        return max(slot.since_s, asked_s)

    def _change(self, slot: VersionSlot, state: SlotState, *, reason: str | None = None, **facts: float | None) -> None:
        if state is slot.state:
            return  # A host says LOADING when it begins; we have said so since it was asked for.
        # While it is tried again, why the last try failed is still what there is to know.
        last_reason = slot.reason if slot.failures and state in IN_PROGRESS else None
        slot.state, slot.reason, slot.since_s = state, reason or last_reason, self._clock()
        self.when_changed(slot.key, slot.state, slot.since_s)
        level = logging.WARNING if state is SlotState.FAILED else logging.INFO
        extra = {"model": slot.key[0], "version": slot.key[1], "state": state.value, **facts}
        _log.log(level, "slot_changed", extra={**extra, "reason": reason} if reason else extra)

    def _publish_hosts(self) -> None:
        self._connections.set_hosts([slot.address for slot in self._slots.values() if slot.address is not None])


def _longest_pause_s(error: ServingError) -> float:
    match error:
        case TemporarilyUnavailable():
            return _UNTIL_BACK_S
        case VersionHasNoFiles():
            return _UNTIL_FILES_S
        case LacksSignature():
            return _UNTIL_SIGNED_S
    return math.inf


async def _unless_ended(host: HostProcess, waited_for: Awaitable[None]) -> None:
    """Wait for *waited_for*, but no longer than *host* lives.

    Raises:
        LoadFailed: if it ended first.
    """
    waiting, ended = asyncio.ensure_future(waited_for), asyncio.ensure_future(host.ended())
    try:
        await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise host.why_it_ended
        await waiting
    finally:
        waiting.cancel()
        ended.cancel()
