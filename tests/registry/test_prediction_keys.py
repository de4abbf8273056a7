"""Keys that sign ids of predictions: one at a time, whoever starts, and the old ones for as long as they are needed."""

from concurrent.futures import ThreadPoolExecutor

from registry import prediction_keys


def ensure(database, now_ms=1):
    with database.writing() as session:
        return prediction_keys.ensure_key(session, now_ms=now_ms)


def rotate(database, now_ms, **how):
    with database.writing() as session:
        return prediction_keys.rotate(session, now_ms=now_ms, **how)


def listed(database):
    with database.reading() as session:
        return prediction_keys.list_keys(session)


def test_of_replicas_that_start_at_once_one_makes_the_key(database):
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: ensure(database), range(8)))
    assert listed(database) == made[:1]
    assert len(made[0].secret) == 32
    assert set(made) == {made[0]}


def test_a_new_key_signs_and_the_old_one_stays_until_nothing_counts_that_it_signed(database):
    first, second = ensure(database, 1), rotate(database, 5)
    assert first.secret != second.secret
    with database.reading() as session:
        assert prediction_keys.find_signing_key(session) == second
    kept = listed(database)
    assert [(key.id, key.retired_ms) for key in kept] == [(second.id, None), (first.id, 5)]
    for before_ms, left in ((5, [second.id, first.id]), (6, [second.id])):
        with database.writing() as session:
            prediction_keys.remove_retired(session, before_ms=before_ms)
        assert [key.id for key in listed(database)] == left


def test_old_keys_can_be_forgotten_at_once(database):
    ensure(database)
    rotate(database, 5)
    newest = rotate(database, 6, forget_old=True)
    assert listed(database) == [newest]


def test_there_is_no_key_before_one_is_made(database):
    with database.reading() as session:
        assert prediction_keys.find_signing_key(session) is None
