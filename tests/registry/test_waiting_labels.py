"""Labels that wait: each is taken once, by whomever, and they go with their endpoint."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import aliases, endpoints, labels, waiting_labels
from registry.entities import CHAMPION, Cell
from registry.labels import Given
from registry.waiting_labels import Place, WaitingLabel

DAY = "2026-11-23"
CHAMPIONS = Cell(1, CHAMPION, 1)


@pytest.fixture
def place(database, iris, add_version):
    """A day of an endpoint."""
    version = add_version(iris).version
    with database.writing() as session:
        aliases.set_alias(session, iris, CHAMPION, version, author="ann", now_ms=1)
        return Place(endpoints.get_endpoint(session, iris).id, DAY)


def waiting(place, number, row=0, cell=CHAMPIONS):
    return WaitingLabel(
        nonce=labels.nonce_of_row(number.to_bytes(12, "big"), row or 0),
        place=place,
        prediction_id=f"id-{number}",
        row=row,
        at_ms=1,
        label='"ä\\u0000"',
        cell=cell,
        cluster=number,
        since_ms=2,
    )


def add(database, *some):
    with database.writing() as session:
        waiting_labels.add(session, some)


def test_what_waits_is_read_back_by_its_place(database, place):
    some = [waiting(place, 1, row=None, cell=None), waiting(place, 2, row=1)]
    other = Place(place.endpoint_id, "2026-11-24")
    add(database, *some, waiting(other, 3))
    with database.reading() as session:
        assert waiting_labels.places(session) == [place, other]
        assert sorted(waiting_labels.list_of(session, place), key=lambda one: one.nonce) == some
        assert waiting_labels.room(session) == waiting_labels.WAITING_MAX - 3


def test_of_those_who_take_the_same_at_once_one_gets_it(database, place):
    some = [waiting(place, number) for number in range(50)]
    add(database, *some)
    nonces = [one.nonce for one in some]

    def take(_):
        with database.writing() as session:
            return waiting_labels.take(session, nonces)

    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(take, range(4)))
    assert sum(map(len, taken)) == 50
    assert set().union(*taken) == set(nonces)


def test_they_go_with_their_endpoint(database, place):
    add(database, waiting(place, 1))
    with database.writing() as session:
        endpoints.model_was_deleted(session, "iris")
        assert waiting_labels.places(session) == []


def test_what_came_to_nothing_may_be_given_once_more(database):
    given = Given(labels.nonce_of_row(b"n" * 12, 7), is_reward=False, predicted_ms=1)
    for _ in range(2):
        with database.writing() as session:
            assert labels.add_new(session, [given]) == {given[:2]}
            labels.forget(session, [given])
