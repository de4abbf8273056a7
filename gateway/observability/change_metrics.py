"""How often what is served was changed, and in which way: what the history says of it, as a counter.

Every replica counts the changes of all, whoever made them, from when it started.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from gateway.observability.metrics import Family, Kind, Metrics
from registry import history
from tracking.database import Database
from tracking.errors import ServingError

_INTERVAL_S = 5.0

# Without the model: names come and go for as long as a server runs, and a counter's series would stay.
CHANGES = Family("gateway_changes", "Entries of the history, by what was done.", Kind.COUNTER, ("action",))


def add(metrics: Metrics, counts: Mapping[str, int]) -> None:
    for action, count in counts.items():
        metrics.number(CHANGES, action).add(count)


class ChangesFollower:
    """*counted* is told after each look how often each thing was done since the last one."""

    def __init__(
        self, database: Database, *, counted: Callable[[Mapping[str, int]], None], interval_s: float = _INTERVAL_S
    ) -> None:
        self._database = database
        self._counted = counted
        self._interval_s = interval_s
        self._seq: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            # That the database is away, others say; what was done meanwhile is counted by the first look after it.
            with suppress(ServingError):
                self._counted(await asyncio.to_thread(self.look))
            await asyncio.sleep(self._interval_s)

    def look(self) -> Mapping[str, int]:
        """What was done since the last look; nothing at the first one. In a thread, as it asks the database."""
        with self._database.reading() as session:
            newest = history.head(session).seq
            counts = {} if self._seq is None else history.count_actions(session, after=self._seq, to=newest)
        self._seq = newest
        return counts
