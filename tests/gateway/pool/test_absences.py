"""A version that has just lost its process is waited for, a while and by so many."""

import asyncio
import time

from gateway.pool.absences import Absences

KEY = ("iris", 1)
LATER_S = 20.0


def waiting(absences, deadline_s=None):
    return asyncio.create_task(absences.is_over(KEY, time.monotonic() + LATER_S if deadline_s is None else deadline_s))


def test_who_waits_goes_on_as_soon_as_the_version_is_back():
    async def scenario():
        absences = Absences(wait_s=LATER_S, waiting_max=2)
        absences.begin(KEY)
        tasks = [waiting(absences), waiting(absences)]
        await asyncio.sleep(0)
        # One more than may wait hears so at once.
        assert not await absences.is_over(KEY, time.monotonic() + LATER_S)
        absences.end(KEY)
        assert await asyncio.gather(*tasks) == [True, True]

    asyncio.run(scenario())


def test_nothing_is_waited_for_that_was_never_lost_or_too_long_ago():
    async def scenario():
        absences = Absences(wait_s=0.3, waiting_max=2)
        assert not await waiting(absences)
        absences.begin(KEY)
        began_s = time.monotonic()
        assert not await waiting(absences)
        assert 0.3 <= time.monotonic() - began_s < LATER_S / 2
        # And not once more for the next request.
        assert not await asyncio.wait_for(absences.is_over(KEY, began_s + LATER_S), 0.25)

    asyncio.run(scenario())


def test_a_deadline_of_the_callers_own_counts():
    async def scenario():
        absences = Absences(wait_s=LATER_S, waiting_max=2)
        absences.begin(KEY)
        assert not await waiting(absences, time.monotonic() + 0.01)

    asyncio.run(scenario())
