"""What was given feedback: remembered once, for as long as it could come again."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import aliases, endpoints, labels
from registry.entities import CHAMPION
from registry.labels import Given


@pytest.fixture
def iris_endpoint(database, iris, add_version):
    """The id of an endpoint."""
    version = add_version(iris).version
    with database.writing() as session:
        aliases.set_alias(session, iris, CHAMPION, version, author="ann", now_ms=1)
        return endpoints.get_endpoint(session, iris).id


def given(number, *, is_reward=False, predicted_ms=1):
    return Given(number.to_bytes(12, "big"), is_reward, predicted_ms)


def add(database, *some):
    with database.writing() as session:
        return labels.add_new(session, some)


def test_a_label_and_a_reward_are_new_once_each(database):
    label, reward = given(1), given(1, is_reward=True)
    assert add(database, label, given(2)) == {label[:2], given(2)[:2]}
    assert add(database, label) == set()
    assert add(database, label, reward) == {reward[:2]}
    assert add(database) == set()


def test_of_those_who_give_the_same_at_once_one_is_the_first(database):
    some = [given(number) for number in range(500)]
    with ThreadPoolExecutor(4) as threads:
        # In any order, which locks nobody out.
        new = list(threads.map(lambda turn: add(database, *(some[::-1] if turn % 2 else some)), range(8)))
    assert sum(map(len, new)) == len(some)
    assert set().union(*new) == {one[:2] for one in some}


def test_what_is_too_old_is_swept_and_the_rest_is_kept(database):
    add(database, given(1, predicted_ms=10), given(2, predicted_ms=11), given(2, is_reward=True, predicted_ms=11))
    with database.writing() as session:
        assert labels.sweep(session, before_ms=11) == 1
        assert labels.sweep(session, before_ms=11) == 0
    assert add(database, given(1), given(2), given(2, is_reward=True)) == {given(1)[:2]}


def test_outcomes_add_up_by_endpoint_and_go_with_it(database, iris_endpoint):
    for _ in range(2):
        with database.writing() as session:
            assert labels.hold(session, {iris_endpoint, "nobody"}) == {iris_endpoint}
            labels.count(session, iris_endpoint, {"accepted": 2, "repeated": 0, "unmatched": 1})
    with database.reading() as session:
        assert labels.counts_of(session, iris_endpoint) == {"accepted": 4, "unmatched": 2}
    with database.writing() as session:
        endpoints.model_was_deleted(session, "iris")
        assert labels.counts_of(session, iris_endpoint) == {}


def test_an_id_leads_to_its_endpoint_and_to_the_arms_of_its_period(database, iris_endpoint):
    with database.reading() as session:
        assert labels.endpoints_of(session, {iris_endpoint, "0" * 32}) == {iris_endpoint: ("iris", "iris")}
        found = labels.arms_of(session, {(iris_endpoint, 1), (iris_endpoint, 99), ("0" * 32, 1)})
    assert found == {(iris_endpoint, 1): (CHAMPION,)}
