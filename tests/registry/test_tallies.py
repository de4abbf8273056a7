"""Sums between those who count and those who compare: added once, by many, of endpoints that are there."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from registry import aliases, endpoints, models, tallies
from registry.entities import CHAMPION, Cell
from registry.tallies import PERIODS_MAX, Kind

WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
"""Whether somebody waits for a lock, in PostgreSQL."""


@pytest.fixture
def iris_endpoint(database, iris, add_version):
    """The id of an endpoint."""
    version = add_version(iris).version
    with database.writing() as session:
        aliases.set_alias(session, iris, CHAMPION, version, author="ann", now_ms=1)
        return endpoints.get_endpoint(session, iris).id


def plus(old: bytes, new: bytes) -> bytes:
    return str(int(old) + int(new)).encode()


def add(database, endpoint_id, counted, kind=Kind.SERVING):
    with database.writing() as session:
        tallies.add(session, endpoint_id, kind, counted, plus)


def read(database, endpoint_id):
    with database.reading() as session:
        return tallies.read(session, endpoint_id)


def test_what_many_count_at_once_adds_up(database, iris_endpoint):
    first, second = Cell(period=1, arm=CHAMPION, version=1), Cell(period=1, arm="challenger", version=2)
    with ThreadPoolExecutor(4) as threads:
        # In either order, which locks nobody out.
        wanted = [{first: b"1", second: b"10"}, {second: b"10", first: b"1"}] * 10
        list(threads.map(lambda counted: add(database, iris_endpoint, counted), wanted))
    add(database, iris_endpoint, {first: b"7"}, Kind.LATENCY)
    assert read(database, iris_endpoint) == {
        Kind.SERVING: {first: b"20", second: b"200"},
        Kind.LATENCY: {first: b"7"},
    }


def test_old_periods_are_dropped_and_nothing_is_kept_of_no_endpoint(database, iris_endpoint):
    periods = [Cell(period=number, arm=CHAMPION, version=1) for number in (1, 2, PERIODS_MAX + 1)]
    for cell in periods:
        add(database, iris_endpoint, {cell: b"1"})
    add(database, "nobody", {periods[0]: b"1"})
    assert read(database, iris_endpoint) == {Kind.SERVING: dict.fromkeys(periods[1:], b"1")}
    assert read(database, "nobody") == {}
    with database.writing() as session:
        endpoints.model_was_deleted(session, "iris")
    assert read(database, iris_endpoint) == {}


def test_an_endpoint_that_is_deleted_meanwhile_takes_nothing(database, iris, iris_endpoint):
    with ThreadPoolExecutor(1) as threads:
        with database.writing() as session:
            models.delete_model(session, iris, author="ann", now_ms=2)
            adding = threads.submit(add, database, iris_endpoint, {Cell(1, CHAMPION, 1): b"1"})
            while not database.is_sqlite and not adding.done() and not session.scalar(WAITING):
                pass
        adding.result()
    assert read(database, iris_endpoint) == {}
