"""What a worker has counted goes to the database once a second, in a thread of its own, differences only.

While the database is away they wait here, added up. A worker that is killed takes with it what it counted since the
last time, and no more.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.orm import Session

from gateway.comparison import kept_sums
from gateway.comparison.counting import ArmSums, Counting, Place, Taken
from gateway.comparison.sums import Column, UnreadableSums
from registry.entities import Cell
from registry.tallies import Kind
from tracking.access.caller import CALLER, PROGRAM
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
CELLS_MAX = 1_000
"""Arms' sums that wait for the database, of 33 kB each; what is counted of others meanwhile is lost."""
# Of one transaction, which others may have to wait for.
_ENDPOINTS_MAX = 20


class Flusher:
    """Writes what *counting* has counted. *lost* is told of requests that never will be written, and how many."""

    def __init__(self, counting: Counting, database: Database, *, lost: Callable[[int], None] = lambda _: None) -> None:
        self._counting = counting
        self._database = database
        self._lost = lost
        # All below belongs to the one thread.
        self._writer = ThreadPoolExecutor(1, "counting", initializer=CALLER.set, initargs=(PROGRAM,))
        self._waiting: dict[str, dict[Cell, ArmSums]] = {}
        self._is_away = False

    async def keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted, and what has waited; if the database is away it waits on."""
        taken = self._counting.take()
        # Whoever stops waiting doesn't stop what was taken from being written.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, self._write, taken))

    def close(self) -> None:
        """Write the last of it. What can't be written now is lost."""
        self._writer.submit(self._write, self._counting.take()).result()
        self._writer.shutdown()
        self._lose(list(self._waiting))

    def _write(self, taken: dict[Place, Taken]) -> None:
        for place, part in taken.items():
            self._wait(place, part.added_up())
        while self._waiting:
            some = sorted(self._waiting)[:_ENDPOINTS_MAX]
            try:
                with self._database.writing() as session:
                    for endpoint_id in some:
                        _add(session, endpoint_id, self._waiting[endpoint_id])
            except (ServingError, NoConnectionFree) as error:
                if not self._is_away:
                    reason = error.reason if isinstance(error, ServingError) else str(error)
                    _log.warning("counts_waiting", extra={"reason": reason})
                self._is_away = True
                return
            except Exception:  # An edge: what fails always must not keep all others from being written.
                _log.exception("counts_not_written")
                self._lose(some)
            self._is_away = False
            for endpoint_id in some:
                self._waiting.pop(endpoint_id, None)

    def _wait(self, place: Place, sums: ArmSums) -> None:
        endpoint_id, cell = place
        cells = self._waiting.setdefault(endpoint_id, {})
        if cell in cells:
            cells[cell].merge(sums)
        elif sum(map(len, self._waiting.values())) < CELLS_MAX:
            cells[cell] = sums
        else:
            self._lost(_requests(sums))

    def _lose(self, endpoint_ids: Sequence[str]) -> None:
        lost = sum(_requests(sums) for each in endpoint_ids for sums in self._waiting.pop(each).values())
        if lost:
            _log.warning("counts_lost", extra={"requests": lost})
            self._lost(lost)


def _requests(sums: ArmSums) -> int:
    return int(sums.serving.row(Column.REQUESTS).sum())


def _add(session: Session, endpoint_id: str, cells: dict[Cell, ArmSums]) -> None:
    try:
        kept_sums.add(session, endpoint_id, Kind.SERVING, {cell: sums.serving for cell, sums in cells.items()})
        kept_sums.add(session, endpoint_id, Kind.LATENCY, {cell: sums.latency for cell, sums in cells.items()})
        kept_sums.add(session, endpoint_id, Kind.PREDICTIONS, {cell: sums.predictions for cell, sums in cells.items()})
    except UnreadableSums as error:
        # What a later release has begun to count, or what was damaged. It never will be readable here.
        _log.exception("counts_unreadable", extra={"endpoint_id": endpoint_id, "reason": error.message})
