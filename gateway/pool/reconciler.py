"""Brings memory and the routing table to what the registry asks for, at its own pace, whatever happened meanwhile.

Each tick: read the generation and, if it moved, desired state; take the next steps of the version policy; say over the
database what this replica holds; commit the next epoch if every live replica is ready for one. Promotion, rollback,
restart and a second replica are all this one path.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.pool.model_slots import ModelSlots
from gateway.pool.version_policy import aspired_versions
from gateway.settings import Settings
from registry import endpoints, epochs, serving, versions
from registry.entities import DesiredRoute, Pin, RoutingTable, SlotStatus, VersionKey
from registry.routing_plan import next_routes
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_LEASE_MS = 5_000
_HEARTBEAT_S = 1.0
_DEAD_REPLICAS_KEPT_MS = 3_600_000


class Switches(Protocol):
    """Who answers from the table: the HTTP workers."""

    def switch(self, table: RoutingTable, at_s: float) -> None:
        """Tell all workers, now and later, to answer from *table* from *at_s* on, by this machine's clock."""

    def set_stale_since(self, stale_since_s: float | None) -> None:
        """Tell all workers since when the database has been away; None when it is back."""

    @property
    def epoch(self) -> int:
        """The oldest epoch that a worker answers from."""
        ...


class Desired(msgspec.Struct, frozen=True):
    """What the database says, as of one generation."""

    generation: int = -1
    routes: tuple[DesiredRoute, ...] = ()
    table: RoutingTable = RoutingTable()
    pins: tuple[Pin, ...] = ()
    digests: dict[VersionKey, str | None] = {}
    """What the versions named above are held to."""


class SavedTable(msgspec.Struct, frozen=True):
    """What is kept on disk: enough to serve on after a restart without the database."""

    table: RoutingTable
    digests: list[tuple[str, int, str]]


class Reconciler:
    """One replica's part in serving what the registry asks for.

    Setting *nudged* makes it look now and not at the next poll.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        replica_id: str,
        database: Database,
        slots: ModelSlots,
        workers: Switches,
        clock: Callable[[], float],
        nudged: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._replica_id = replica_id
        self._database = database
        self._slots = slots
        self._workers = workers
        self._clock = clock
        self._saved_path = settings.data_dir / "state" / "routing_table.json"
        self._desired = Desired()
        self._nudged = nudged
        self._clock_offset_s = 0.0
        self._announced_epoch = -1
        # From the table that the slowest worker answers from to the newest that was announced.
        self._answered_from: list[RoutingTable] = []
        self._said: tuple[list[SlotStatus], int] | None = None
        self._said_at_s = 0.0
        self._heard_at_s = clock()
        self._stale = False
        self._warm_ms = int(settings.former_champion_warm_s * 1000)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        self._recover_saved_table()
        while True:
            await self._tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll_interval_s):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _tick(self) -> None:
        try:
            await self._observe()
            self._step()
            self._announce()
            await self._report()
            self._mark_fresh()
        except ServingError as error:
            # The database is away. What is in memory serves on, and what the last table names is brought up.
            self._mark_stale(error)
            self._step()
            self._announce()
        except Exception:
            # An edge: a bug in one tick must not end the loop that keeps everything else going.
            _log.exception("reconciler_tick_failed")

    # --- what should be

    async def _observe(self) -> None:
        desired = await asyncio.to_thread(self._read_desired)
        if desired is not None:
            self._desired = desired

    def _read_desired(self) -> Desired | None:
        """Desired state if the generation moved. Runs in a thread."""
        with self._database.reading() as session:
            before_s = self._clock()
            now_ms = self._database.now_ms(session)
            self._clock_offset_s = now_ms / 1000 - (before_s + self._clock()) / 2
            generation = serving.generation(session)
            if generation == self._desired.generation:
                return None
            routes, table = endpoints.desired_routes(session), serving.newest_table(session)
            pins = serving.list_pins(session)
            keys = aspired_versions(routes, [table], pins, now_ms=now_ms, warm_ms=self._warm_ms)
            return Desired(
                generation=generation,
                routes=tuple(routes),
                table=table,
                pins=tuple(pins),
                digests=versions.find_digests(session, keys),
            )

    def _announce(self) -> None:
        """Hand a new epoch to the workers, with its instant by this machine's clock."""
        table = self._desired.table
        if table.epoch <= self._announced_epoch or self._desired == Desired():
            # Nothing new; or nothing at all, neither from the database nor from the disk: not ready yet.
            return
        named = {(route.model, version) for route in table.routes for version in route.arms.values()}
        if self._announced_epoch < 0 and not named <= self._slots.ready() | self._slots.failing():
            # A fresh replica first loads what the epoch names, and is ready only then. What fails to load here
            # doesn't hold up the rest.
            return
        self._announced_epoch = table.epoch
        self._answered_from.append(table)
        self._workers.switch(table, table.activate_at_ms / 1000 - self._clock_offset_s)
        self._save_table(table)

    def _step(self) -> None:
        while len(self._answered_from) > 1 and self._answered_from[1].epoch <= self._workers.epoch:
            del self._answered_from[0]
        aspired = aspired_versions(
            self._desired.routes,
            [self._desired.table, *self._answered_from],
            self._desired.pins,
            now_ms=int((self._clock() + self._clock_offset_s) * 1000),
            warm_ms=self._warm_ms,
        )
        self._slots.step_towards(aspired, self._desired.digests)

    # --- what the others should know

    async def _report(self) -> None:
        said = (self._slots.statuses(), self._workers.epoch)
        now_s = self._clock()
        if said != self._said or now_s - self._said_at_s >= _HEARTBEAT_S:
            await asyncio.to_thread(self._heartbeat, *said)
            self._said, self._said_at_s = said, now_s
        # Asked here first, without a lock: most ticks there is nothing to commit.
        if next_routes(self._desired.table, self._desired.routes, self._slots.ready()) != self._desired.table.routes:
            await asyncio.to_thread(self._commit)

    def _heartbeat(self, slots: list[SlotStatus], epoch: int) -> None:
        with self._database.writing() as session:
            now_ms = self._database.now_ms(session)
            serving.heartbeat(session, self._replica_id, slots=slots, epoch=epoch, now_ms=now_ms, lease_ms=_LEASE_MS)
            serving.forget_dead_replicas(session, now_ms=now_ms, older_than_ms=_DEAD_REPLICAS_KEPT_MS)

    def _commit(self) -> None:
        with self._database.writing() as session:
            now_ms = self._database.now_ms(session)
            lead_ms = int(2 * self._settings.poll_interval_s * 1000)
            table = epochs.commit_epoch(session, now_ms=now_ms, lead_ms=lead_ms)
        if table is not None:
            _log.info("epoch_committed", extra={"epoch": table.epoch, "routes": len(table.routes)})
            self._nudged.set()

    def _mark_fresh(self) -> None:
        if self._stale:
            self._stale = False
            _log.info("database_back", extra={"away_s": round(self._clock() - self._heard_at_s, 1)})
            self._workers.set_stale_since(None)
        self._heard_at_s = self._clock()

    def _mark_stale(self, error: ServingError) -> None:
        if not self._stale:
            _log.warning("database_away", extra={"reason": error.reason})
            self._stale = True
            self._workers.set_stale_since(self._heard_at_s)

    # --- the last good table, over a restart

    def _save_table(self, table: RoutingTable) -> None:
        digests = [(model, version, digest) for (model, version), digest in self._slots.digests().items()]
        self._saved_path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = self._saved_path.with_suffix(".partial")
        partial_path.write_bytes(msgspec.json.encode(SavedTable(table, digests)))
        partial_path.replace(self._saved_path)

    def _recover_saved_table(self) -> None:
        """Begin with the table that was served last. The database, once it is heard, says what is newer."""
        try:
            saved = msgspec.json.decode(self._saved_path.read_bytes(), type=SavedTable)
        except (OSError, msgspec.MsgspecError):
            return
        digests: dict[VersionKey, str | None] = {(model, version): digest for model, version, digest in saved.digests}
        self._desired = Desired(table=saved.table, digests=digests)

    async def leave(self) -> None:
        """Take this replica off the list, so that nobody waits for it."""
        with contextlib.suppress(ServingError):
            await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        with self._database.writing() as session:
            serving.leave(session, self._replica_id)
