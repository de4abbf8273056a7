"""Verdicts are kept as of the last look; but what was once found wrong with the split stays found."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from registry import aliases, endpoints, verdicts
from registry.entities import CHAMPION, KeptVerdict
from registry.verdicts import PAIRS_MAX, Pair


@pytest.fixture
def endpoint_id(database, iris, add_version) -> str:
    version = add_version(iris).version
    with database.writing() as session:
        aliases.set_alias(session, iris, CHAMPION, version, author="ann", now_ms=1)
        return endpoints.get_endpoint(session, iris).id


def verdict(metric="accuracy", *, challenger=2, said="better", mismatch_p=1.0, judged_ms=10, **others):
    return KeptVerdict(
        champion=1,
        challenger=challenger,
        arm="challenger",
        metric=metric,
        from_period=others.pop("from_period", 1),
        verdict=said,
        reason="so it is",
        champion_n=100.0,
        challenger_n=50.0,
        mismatch_p=mismatch_p,
        judged_ms=judged_ms,
        **others,
    )


def keep(database, endpoint_id, *kept):
    first = kept[0]
    pair = Pair(endpoint_id=endpoint_id, champion=1, challenger=first.challenger, from_period=first.from_period)
    with database.writing() as session:
        verdicts.keep(session, pair, kept)


def find(database, endpoint_id, metric="accuracy"):
    with database.reading() as session:
        return verdicts.find(session, endpoint_id, champion=1, challenger=2, metric=metric)


def test_the_last_look_is_what_is_found(database, endpoint_id):
    assert find(database, endpoint_id) is None
    first = verdict(difference=0.01, lower=-0.5, upper=float("inf"), said="not_yet", alike=True)
    keep(database, endpoint_id, first, verdict("f1"))
    assert find(database, endpoint_id) == msgspec.structs.replace(first, upper=None)
    now = verdict(judged_ms=20)
    for _ in range(2):
        keep(database, endpoint_id, now)
    assert find(database, endpoint_id) == now
    assert find(database, endpoint_id, "f1") is None
    with database.reading() as session:
        assert verdicts.list_of(session, endpoint_id) == [now]


def test_a_mismatch_never_heals_by_itself_nor_by_another_metric(database, endpoint_id):
    keep(database, endpoint_id, verdict("failure_rate", mismatch_p=0.004))
    keep(database, endpoint_id, verdict("failure_rate", mismatch_p=0.9), verdict(mismatch_p=0.9))
    assert [find(database, endpoint_id, name).mismatch_p for name in ("failure_rate", "accuracy")] == [0.004, 0.004]
    keep(database, endpoint_id, verdict(mismatch_p=0.7, from_period=5))
    assert find(database, endpoint_id).mismatch_p == 0.7


def test_many_who_judge_at_once_keep_the_least(database, endpoint_id):
    values = [0.5, 0.1, 0.03, 0.2, 0.9, 0.04, 0.6, 0.7]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda p: keep(database, endpoint_id, verdict(mismatch_p=p), verdict("f1")), values))
    assert find(database, endpoint_id).mismatch_p == 0.03


def test_pairs_that_were_judged_long_ago_go_and_nothing_is_kept_of_no_endpoint(database, endpoint_id):
    for number in range(PAIRS_MAX + 2):
        keep(database, endpoint_id, verdict(challenger=2 + number, judged_ms=number))
    keep(database, "nobody", verdict())
    with database.reading() as session:
        kept = verdicts.list_of(session, endpoint_id)
        assert verdicts.list_of(session, "nobody") == []
    assert len(kept) == PAIRS_MAX
    assert {each.challenger for each in kept}.isdisjoint({2, 3})
    with database.writing() as session:
        endpoints.model_was_deleted(session, "iris")
        assert verdicts.list_of(session, endpoint_id) == []


def test_an_endpoint_is_compared_anew_from_a_reshuffle_on(database, endpoint_id):
    with database.writing() as session:
        for reshuffle in (False, True, False):
            endpoints.change_split(session, "iris", {CHAMPION: 10_000}, author="ann", now_ms=1, reshuffle=reshuffle)
        splits = endpoints.splits_from(session, endpoint_id, 2)
    assert [(split.period, split.reshuffled) for split in splits] == [(2, False), (3, True), (4, False)]
