"""One version in one replica: its state, what it holds, and what others see of it."""

import asyncio
from contextlib import AsyncExitStack

from gateway.pool.hosts import HostProcess
from gateway.pool.messages import HostAddress
from gateway.pool.version_policy import SlotState, Standing
from registry.entities import SlotStatus, VersionKey


class VersionSlot:
    """Written by `ModelSlots` and its `MemoryBudget`, on one event loop."""

    def __init__(self, key: VersionKey, now_s: float) -> None:
        self.key = key
        self.state = SlotState.NEW
        self.reason: str | None = None
        self.since_s = now_s
        self.is_needed = False
        """Whether an arm or a table asks for it, and not only a pin or a warm time."""
        self.failures = 0
        self.retry_at_s = 0.0
        self.ends_s: list[float] = []
        """When its host ended of itself though it had been READY, of late."""
        self.address: HostAddress | None = None
        self.digest: str | None = None
        self.host: HostProcess | None = None
        self.memory_bytes = 0
        """What the host takes, or is promised while it comes up."""
        self.room_wanted_bytes: int | None = None
        """What it would take, if it had to leave, or was refused, for want of that."""
        self.task: asyncio.Task[None] | None = None
        self.resources = AsyncExitStack()

    @property
    def standing(self) -> Standing:
        if self.state is SlotState.DRAINING:
            return Standing.LEAVING
        return Standing.SPARE if self.state is SlotState.READY and not self.is_needed else Standing.STAYS

    def status(self) -> SlotStatus:
        description = self.address.description if self.address else None
        is_retried = self.state is SlotState.FAILED and self.room_wanted_bytes is None
        return SlotStatus(
            model=self.key[0],
            version=self.key[1],
            state=self.state,
            reason=self.reason,
            since_ms=int(self.since_s * 1000),
            flavor=description.flavor if description else None,
            predictor=description.predictor if description else None,
            predictor_reason=(description.predictor_reason or None) if description else None,
            digest=self.digest,
            memory_bytes=self.memory_bytes or None,
            confinement=description.confinement if description else None,
            next_try_ms=int(self.retry_at_s * 1000) if is_retried else None,
        )
