"""Brings memory and the routing table to what the registry asks for, at its own pace, whatever happened meanwhile.

Each tick: read the generation and, if it moved, desired state; take the next steps of the version policy; hand a new
epoch to the workers. Beside the ticks: say over the database what this replica holds; commit the next epoch if every
live replica is ready for one. Promotion, rollback, restart and a second replica are all this one path.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy.orm import Session

from gateway.pool.clock_offset import ClockOffset
from gateway.pool.model_slots import ModelSlots
from gateway.pool.saved_table import TableOnDisk
from gateway.pool.version_policy import aspired_versions
from gateway.settings import Settings
from registry import endpoints, epochs, pins, serving, versions
from registry.entities import DesiredRoute, Pin, RoutingTable, SlotStatus, VersionKey
from registry.routing_plan import next_routes
from tracking.database import Database, DatabaseUnavailable
from tracking.errors import ServingError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LEASE_MS = 5_000
_HEARTBEAT_S = 1.0
_DEAD_REPLICAS_KEPT_MS = 3_600_000
# Clocks drift by milliseconds an hour, and each look at the database's is a question more.
_CLOCK_READ_INTERVAL_S = 1.0


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
        self._on_disk = TableOnDisk(settings.data_dir / "state" / "routing_table.json")
        self._desired = Desired()
        self._nudged = nudged
        self._clock_offset = ClockOffset()
        self._clock_read_at_s = -math.inf
        self._announced_epoch = -1
        self._table_is_kept = True
        self._given_up: set[asyncio.Future[Any]] = set()
        self._reporting: asyncio.Task[ServingError | None] | None = None
        self._reported: ServingError | None = None
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
        try:
            while True:
                await self._tick()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_interval_s):
                        await self._nudged.wait()
                self._nudged.clear()
        finally:
            if self._reporting is not None:
                self._reporting.cancel()

    async def _tick(self) -> None:
        try:
            away = await self._database_away(self._observe)
            # Whether or not the database answers: what is in memory serves on, and what the last table names is
            # brought up.
            self._step()
            self._announce()
            if away is None:
                away = self._last_report()
            if away is None:
                self._mark_fresh()
            else:
                self._mark_stale(away)
        except Exception:
            # An edge: a bug in one tick must not end the loop that keeps everything else going.
            _log.exception("reconciler_tick_failed")

    def _last_report(self) -> ServingError | None:
        """Why the last report came to nothing, if it did; the next one is begun as soon as there is none under way.

        Beside the ticks: a write that waits must not keep an epoch from being read before its instant.
        """
        if self._reporting is None or self._reporting.done():
            reported, self._reporting = self._reporting, asyncio.create_task(self._database_away(self._report))
            self._reported = None if reported is None else reported.result()
        return self._reported

    async def _database_away(self, part: Callable[[], Awaitable[None]]) -> ServingError | None:
        """Do a part of a tick that needs the database, and say why not if it is away."""
        try:
            await part()
        except ServingError as error:
            return error
        return None

    async def _ask(self, question: Callable[[], T]) -> T:
        """*question*'s answer, from a thread. A database that is silent for longer than a lease counts as away.

        Raises:
            DatabaseUnavailable: then, and at once for as long as a question that was given up is still waiting.
        """
        if self._given_up:
            raise DatabaseUnavailable
        asked = asyncio.ensure_future(asyncio.to_thread(question))
        await asyncio.wait([asked], timeout=_LEASE_MS / 1000)
        if not asked.done():
            # A thread can't be stopped. What it says in the end nobody hears, only that it has ended.
            self._given_up.add(asked)
            asked.add_done_callback(self._forget)
            raise DatabaseUnavailable
        return asked.result()

    def _forget(self, asked: asyncio.Future[Any]) -> None:
        self._given_up.discard(asked)
        if not asked.cancelled():
            asked.exception()

    # --- what should be

    async def _observe(self) -> None:
        desired = await self._ask(self._read_desired)
        if desired is not None:
            self._desired = desired

    def _read_desired(self) -> Desired | None:
        """Desired state if the generation moved. Runs in a thread."""
        with self._database.reading() as session:
            self._compare_clocks(session)
            generation = serving.generation(session)
            if generation == self._desired.generation:
                return None
            routes, table = endpoints.desired_routes(session, now_ms=self._now_ms()), serving.newest_table(session)
            pinned = pins.list_pins(session)
            keys = aspired_versions(routes, [table], pinned, now_ms=self._now_ms(), warm_ms=self._warm_ms)
            return Desired(
                generation=generation,
                routes=tuple(routes),
                table=table,
                pins=tuple(pinned),
                digests=versions.find_digests(session, keys.all),
            )

    def _compare_clocks(self, session: Session) -> None:
        before_s = self._clock()
        if abs(before_s - self._clock_read_at_s) >= _CLOCK_READ_INTERVAL_S:
            self._clock_read_at_s = before_s
            now_ms = self._database.now_ms(session)
            self._clock_offset.learn(before_s, now_ms / 1000, self._clock())

    def _now_ms(self) -> int:
        """By the database's clock."""
        return int((self._clock() + self._clock_offset.seconds) * 1000)

    def _announce(self) -> None:
        """Hand a new epoch to the workers, with its instant by this machine's clock, and keep it on disk."""
        table = self._desired.table
        # Nothing at all, neither from the database nor from the disk, is nothing to answer from.
        if table.epoch > self._announced_epoch and self._desired != Desired() and self._can_answer(table):
            self._announced_epoch = table.epoch
            self._answered_from.append(table)
            self._workers.switch(table, table.activate_at_ms / 1000 - self._clock_offset.seconds)
            self._table_is_kept = False
        if not self._table_is_kept and self._answered_from:
            self._keep_table(self._answered_from[-1])

    def _can_answer(self, table: RoutingTable) -> bool:
        """Whether all that *table* names has been brought up here, as far as it can be.

        Versions are READY on every live replica before an epoch is committed. A replica that wasn't live then, because
        it has just started or was cut off from the database, goes on as it was until it has them, too. What fails to
        load here doesn't hold up the rest.
        """
        return _named(table) <= self._slots.ready() | self._slots.failing()

    def _step(self) -> None:
        while len(self._answered_from) > 1 and self._answered_from[1].epoch <= self._workers.epoch:
            del self._answered_from[0]
        aspired = aspired_versions(
            self._desired.routes,
            [self._desired.table, *self._answered_from],
            self._desired.pins,
            now_ms=self._now_ms(),
            warm_ms=self._warm_ms,
        )
        self._slots.step_towards(aspired, self._desired.digests)

    # --- what the others should know

    async def _report(self) -> None:
        said = (self._slots.statuses(), self._workers.epoch)
        now_s = self._clock()
        if said != self._said or now_s - self._said_at_s >= _HEARTBEAT_S:
            await self._ask(partial(self._heartbeat, *said))
            self._said, self._said_at_s = said, now_s
        # Asked here first, without a lock: most ticks there is nothing to commit.
        routes = next_routes(self._desired.table, self._desired.routes, self._slots.ready())
        if routes != self._desired.table.routes and await self._ask(self._commit):
            self._nudged.set()

    def _heartbeat(self, slots: list[SlotStatus], epoch: int) -> None:
        with self._database.writing() as session:
            now_ms = self._database.now_ms(session)
            serving.heartbeat(session, self._replica_id, slots=slots, epoch=epoch, now_ms=now_ms, lease_ms=_LEASE_MS)
            serving.forget_dead_replicas(session, now_ms=now_ms, older_than_ms=_DEAD_REPLICAS_KEPT_MS)

    def _commit(self) -> bool:
        """Commit the next epoch if it is time for one; whether there is something new to be read now."""
        with self._database.writing() as session:
            now_ms = self._database.now_ms(session)
            table = epochs.commit_epoch(session, now_ms=now_ms, lead_ms=self._settings.switch_lead_ms)
            # Where another replica was first, ours waited for it, and its instant is as near.
            has_moved = serving.generation(session) != self._desired.generation
        if table is not None:
            _log.info("epoch_committed", extra={"epoch": table.epoch, "routes": len(table.routes)})
        return has_moved

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

    def _keep_table(self, table: RoutingTable) -> None:
        named, known = _named(table), self._slots.digests()
        digests = {key: known.get(key) or self._desired.digests.get(key) for key in named}
        self._on_disk.keep(table, {key: digest for key, digest in digests.items() if digest is not None})
        # A version that is still to be loaded here may have no digest before it is.
        self._table_is_kept = None not in digests.values()

    def _recover_saved_table(self) -> None:
        """Begin with the table that was served last. The database, once it is heard, says what is newer."""
        saved = self._on_disk.find()
        if saved is not None:
            self._desired = Desired(table=saved[0], digests=saved[1])

    async def leave(self) -> None:
        """Take this replica off the list, so that nobody waits for it."""
        with contextlib.suppress(ServingError):
            await self._ask(self._leave)

    def _leave(self) -> None:
        with self._database.writing() as session:
            serving.leave(session, self._replica_id)


def _named(table: RoutingTable) -> frozenset[VersionKey]:
    return frozenset((route.model, version) for route in table.routes for version in route.arms.values())
