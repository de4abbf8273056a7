"""Versions that have just lost their process, and the requests that wait for the next.

A process that was killed is replaced in a second or two. Requests that come meanwhile need not fail, only those that it
held. One that doesn't come back is waited for only so long after it went, so that nobody waits on a version that is
broken.
"""

import asyncio
import time

from registry.entities import VersionKey


class _Absence:
    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.over = asyncio.Event()
        self.waiting = 0


class Absences:
    """*wait_s* is how long after its process went a version is waited for, *waiting_max* by how many requests."""

    def __init__(self, *, wait_s: float, waiting_max: int) -> None:
        self._wait_s = wait_s
        self._waiting_max = waiting_max
        self._absences: dict[VersionKey, _Absence] = {}

    def begin(self, key: VersionKey) -> None:
        now_s = time.monotonic()
        self._absences = {
            other: absence
            for other, absence in self._absences.items()
            if absence.waiting or now_s < absence.since_s + self._wait_s
        }
        self._absences.setdefault(key, _Absence(now_s))

    def end(self, key: VersionKey) -> None:
        absence = self._absences.pop(key, None)
        if absence is not None:
            absence.over.set()

    async def is_over(self, key: VersionKey, deadline_s: float) -> bool:
        """Whether *key* is back, once it is; False where nothing is to be waited for, or not any longer.

        *deadline_s* is by `time.monotonic`.
        """
        absence = self._absences.get(key)
        if absence is None or absence.waiting >= self._waiting_max:
            return False
        absence.waiting += 1
        try:
            async with asyncio.timeout(min(deadline_s, absence.since_s + self._wait_s) - time.monotonic()):
                return await absence.over.wait()
        except TimeoutError:
            return False
        finally:
            absence.waiting -= 1
