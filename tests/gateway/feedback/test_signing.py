"""Workers are told which key signs ids, and what is too old is forgotten."""

import asyncio

from gateway.feedback.signing import SigningFollower
from gateway.feedback.times import DAY_MS, ROTATION_MS
from registry import labels, prediction_keys
from registry.labels import Given
from tracking.database import Database

NOW_MS = 100 * DAY_MS


class Workers:
    """Remember what they were told, and say when."""

    def __init__(self):
        self.told = []
        self.changed = asyncio.Event()

    def set_prediction_key(self, key):
        self.told.append(key)
        self.changed.set()


def follower(database, workers):
    return SigningFollower(database, workers, feedback_days=30, clock=lambda: NOW_MS / 1000, interval_s=0.01)


def rotate(database):
    with database.writing() as session:
        return prediction_keys.rotate(session, now_ms=NOW_MS)


def test_a_key_is_made_where_there_is_none_and_a_new_one_is_told(database):
    async def follow():
        workers = Workers()
        following = follower(database, workers)
        await following.begin()
        workers.changed.clear()
        task = asyncio.create_task(following.run())
        rotated = await asyncio.to_thread(rotate, database)
        async with asyncio.timeout(60):
            await workers.changed.wait()
        task.cancel()
        return workers.told, rotated

    told, rotated = asyncio.run(follow())
    assert [key.id for key in told] == [told[0].id, rotated.id]
    assert told[0].made_ms == NOW_MS


def test_labels_and_keys_are_forgotten_once_no_feedback_is_taken_for_what_they_are_of(database):
    oldest_ms = NOW_MS - 30 * DAY_MS - ROTATION_MS
    given = [Given(bytes([number]) * 12, False, oldest_ms - 1 + number) for number in range(2)]
    with database.writing() as session:
        labels.add_new(session, given)
        old = prediction_keys.ensure_key(session, now_ms=1)
        prediction_keys.rotate(session, now_ms=oldest_ms - 1)
        prediction_keys.rotate(session, now_ms=oldest_ms)

    async def sweep_once():
        workers = Workers()
        task = asyncio.create_task(follower(database, workers).run())
        async with asyncio.timeout(60):
            # The first look comes after the first sweep.
            await workers.changed.wait()
        task.cancel()

    asyncio.run(sweep_once())
    with database.writing() as session:
        assert labels.add_new(session, given) == {given[0][:2]}
        kept = prediction_keys.list_keys(session)
    assert old.id not in {key.id for key in kept}
    assert len(kept) == 2


def test_without_a_database_nobody_is_told_anything(tmp_path):
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", connect_timeout_s=1)
    workers = Workers()
    asyncio.run(follower(database, workers).begin())
    database.dispose()
    assert workers.told == []
