"""What writers in processes of their own do to one database. Each function is a process's whole work."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from registry import aliases, models, versions
from registry.sources import Claim, SourcePolicy
from tracking import runs
from tracking.database import Database
from tracking.entities import Metric
from tracking.errors import AlreadyExists, NotFound

SOURCE = "s3://shared-models/iris"
NOW_MS = 1_700_000_000_000
_POLICY = SourcePolicy(locate=lambda _: None, prefixes=(SOURCE,))


@contextmanager
def _opened(url: str, threads: int) -> Iterator[Database]:
    database = Database(url, pool_size=threads)
    try:
        yield database
    finally:
        database.dispose()


def register_versions(url: str, name: str, threads: int) -> list[int]:
    """One version from each of *threads* at once; the numbers they drew."""
    with _opened(url, min(threads, 8)) as database, ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: _register(database, name), range(threads)))


def _register(database: Database, name: str) -> int:
    with database.writing() as session:
        claim, tags = Claim(source=SOURCE), {"approved": "no"}
        return versions.create_version(session, name, claim, policy=_POLICY, tags=tags, now_ms=NOW_MS).version


def write_a_lot(url: str, run_id: str, name: str, rounds: int) -> int:
    """Batches, versions and aliases by two writers that know nothing of each other; the transactions they made."""
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda _: _write(url, run_id, name, rounds), range(2)))


def _write(url: str, run_id: str, name: str, rounds: int) -> int:
    # With a `Database` of its own, and so without the lock that writers of one share.
    with _opened(url, 1) as database:
        for number in range(rounds):
            with database.writing() as session:
                points = [Metric(key="loss", value=1.0, timestamp_ms=number, step=step) for step in range(20)]
                runs.log_batch(session, run_id, metrics=points)
            version = _register(database, name)
            with database.writing() as session:
                aliases.set_alias(session, name, "newest", version, author="me", now_ms=NOW_MS)
    return 3 * rounds


def point(url: str, name: str, alias: str, rounds: int) -> int:
    """Sets *alias* to versions 1 and 2 in turns by two threads; how often another one was found right after."""

    def turns(first: int) -> int:
        others = 0
        for number in range(rounds):
            version = 1 + (first + number) % 2
            with database.writing() as session:
                aliases.set_alias(session, name, alias, version, author="me", now_ms=NOW_MS)
                others += aliases.get_version_by_alias(session, name, alias).version != version
        return others

    with _opened(url, 2) as database, ThreadPoolExecutor(2) as pool:
        return sum(pool.map(turns, range(2)))


def stir(url: str, seed: int, rounds: int) -> set[str]:
    """Makes, renames and deletes models and versions of two names in any order; the kinds of refusal it met."""
    chance, refused = random.Random(seed), set()
    with _opened(url, 1) as database:
        for _ in range(rounds):
            name, other = chance.sample(["iris", "lily"], 2)
            try:
                _step(database, chance.randrange(6), name, other)
            except (NotFound, AlreadyExists) as error:
                refused.add(type(error).__name__)
    return refused


def _step(database: Database, what: int, name: str, other: str) -> None:
    if what == 0:
        _register(database, name)
        return
    with database.writing() as session:
        match what:
            case 1:
                models.create_model(session, name, tags={"team": "bees"}, now_ms=NOW_MS)
            case 2:
                models.rename_model(session, name, other, author="me", now_ms=NOW_MS)
            case 3:
                models.delete_model(session, name, author="me", now_ms=1)
            case 4:
                aliases.set_alias(session, name, "staging", 1, author="me", now_ms=NOW_MS)
            case _:
                versions.delete_version(session, name, 1, author="me", now_ms=NOW_MS)
