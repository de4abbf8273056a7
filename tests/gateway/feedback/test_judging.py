"""Feedback on both databases: joined to who answered, counted once, and nothing of it lost without a word."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from gateway.comparison import kept_sums
from gateway.comparison.sums import CLASSES, NUMBERS, REWARDS
from gateway.feedback.judging import Item, Outcome, judge
from gateway.feedback.keeping import keep
from gateway.feedback.prediction_ids import Answered
from gateway.feedback.times import DAY_MS, ROTATION_MS, SKEW_MS
from registry import endpoints, labels, prediction_keys
from registry.entities import CHALLENGER, CHAMPION, Cell
from tests.gateway.made_ids import made_id

NOW_MS = 1_700_000_000_000
KEPT_MS = 30 * DAY_MS
numbers = count(1)


@pytest.fixture
def key(database):
    with database.writing() as session:
        return prediction_keys.ensure_key(session, now_ms=NOW_MS)


@pytest.fixture
def predicted(key, endpoint_id, two_arms):
    """Makes the id of one more prediction."""

    def make(prediction="a", *, arm=CHAMPION, version=1, bucket=1_234, at_ms=NOW_MS, **more):
        answered = Answered(more.get("endpoint_id", endpoint_id), more.get("period", two_arms), arm, version)
        return made_id(
            more.get("key", key), answered, count=next(numbers), at_ms=at_ms, bucket=bucket, prediction=prediction
        )

    return make


def give(database, *items, now_ms=NOW_MS, may_ask=lambda *_: True):
    """What became of each item; a pair is an id and its label."""
    items = [item if isinstance(item, Item) else Item(*item) for item in items]
    with database.reading() as session:
        judged, _ = judge(session, items, may_ask=may_ask, now_ms=now_ms, kept_ms=KEPT_MS)
    with database.writing() as session:
        return [one.outcome for one in keep(session, judged)]


def sums(database, endpoint_id, layout=CLASSES):
    """{cell: (labels, the second sum)}"""
    with database.reading() as session:
        tally = kept_sums.read(session, endpoint_id).tally(layout)
    return {cell: tuple(found.values[:2].sum(axis=1)) for cell, found in tally.cells.items()}


def test_labels_count_for_the_arm_the_version_and_the_cluster_that_answered(database, endpoint_id, two_arms, predicted):
    given = [
        (predicted("a"), "a"),
        (predicted("a"), "b"),
        (predicted("a", arm=CHALLENGER, version=2, bucket=9_001), "a"),
        (predicted(3.0, arm=CHALLENGER, version=2), 1),
    ]
    assert give(database, *given) == [Outcome.ACCEPTED] * 4
    champion, challenger = Cell(two_arms, CHAMPION, 1), Cell(two_arms, CHALLENGER, 2)
    assert sums(database, endpoint_id) == {champion: (2, 1), challenger: (1, 1)}
    assert sums(database, endpoint_id, NUMBERS) == {challenger: (1, 2)}
    with database.reading() as session:
        cells = kept_sums.read(session, endpoint_id).tally(CLASSES).cells
    assert cells[champion].values[0].nonzero()[0].tolist() == [234]
    assert cells[challenger].values[0].nonzero()[0].tolist() == [1]


def test_in_any_order_and_however_often_each_counts_once(database, endpoint_id, two_arms, predicted):
    some = [(predicted("a"), "a") for _ in range(6)]
    assert give(database, *some[3:], some[4]) == [Outcome.ACCEPTED] * 3 + [Outcome.REPEATED]
    assert give(database, *some[::-1]) == [Outcome.REPEATED] * 3 + [Outcome.ACCEPTED] * 3
    # The first counts, whatever the second says.
    assert give(database, (some[0][0], "b")) == [Outcome.REPEATED]
    assert sums(database, endpoint_id) == {Cell(two_arms, CHAMPION, 1): (6, 6)}
    reward = Item(some[0][0], reward=0.5)
    assert give(database, reward, reward) == [Outcome.ACCEPTED, Outcome.REPEATED]
    assert sums(database, endpoint_id, REWARDS) == {Cell(two_arms, CHAMPION, 1): (1, 0.5)}


def test_the_same_given_by_many_at_once_counts_once(database, endpoint_id, two_arms, predicted):
    some = [(predicted("a"), "a") for _ in range(100)] + [(predicted(0.25), True) for _ in range(20)]
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda turn: give(database, *some[:: 1 - 2 * (turn % 2)]), range(8)))
    assert sum(outcome is Outcome.ACCEPTED for one in outcomes for outcome in one) == 120
    assert sums(database, endpoint_id) == {Cell(two_arms, CHAMPION, 1): (120, 100)}
    with database.reading() as session:
        kept = kept_sums.read(session, endpoint_id)
        assert labels.counts_of(session, endpoint_id) == {"accepted": 120, "repeated": 7 * 120}
    assert kept.calibration[Cell(two_arms, CHAMPION, 1)].labels.sum() == 20


def test_bad_ones_among_good_ones_are_told_apart_and_the_good_ones_count(database, endpoint_id, two_arms, predicted):
    some = {
        (predicted("a"), "a"): Outcome.ACCEPTED,
        ("no id", "a"): Outcome.FORGED,
        (predicted("a")[:-1], "a"): Outcome.FORGED,
        (predicted("a", at_ms=NOW_MS + SKEW_MS), "a"): Outcome.ACCEPTED,
        (predicted("a", at_ms=NOW_MS + SKEW_MS + 1), "a"): Outcome.FROM_FUTURE,
        (predicted("a", at_ms=NOW_MS - KEPT_MS), "a"): Outcome.ACCEPTED,
        (predicted("a", at_ms=NOW_MS - KEPT_MS - 1), "a"): Outcome.TOO_OLD,
        (predicted(0.5), "a"): Outcome.WRONG,
        (predicted(2), "a"): Outcome.WRONG,
        (predicted("a"), None): Outcome.WRONG,
        (predicted("a"), "a", 1.0): Outcome.WRONG,
        (predicted(None), "a"): Outcome.UNMATCHED,
        (predicted(None), None, 1.0): Outcome.ACCEPTED,
        (predicted("a", endpoint_id="0" * 32), "a"): Outcome.UNMATCHED,
    }
    assert give(database, *some) == list(some.values())
    assert sums(database, endpoint_id) == {Cell(two_arms, CHAMPION, 1): (3, 3)}
    with database.reading() as session:
        counts = labels.counts_of(session, endpoint_id)
    assert counts == {"accepted": 4, "from_future": 1, "too_old": 1, "wrong": 4, "unmatched": 1}


def test_what_the_split_did_not_choose_is_taken_once_and_compared_with_nothing(database, endpoint_id, predicted):
    # A forced arm, a version by number, an arm and a period that there never were.
    some = [predicted(bucket=None), predicted(arm="", bucket=None), predicted(arm="gone"), predicted(period=77)]
    assert give(database, *[(one, "a") for one in some]) == [Outcome.ACCEPTED] * 4
    assert give(database, (some[0], "a")) == [Outcome.REPEATED]
    assert sums(database, endpoint_id) == {}


def test_an_arm_that_left_the_split_is_still_told_its_labels(database, endpoint_id, two_arms, predicted):
    given = predicted(arm=CHALLENGER, version=2), "a"
    with database.writing() as session:
        endpoints.change_split(session, "iris", {CHAMPION: 10_000}, author="ann", now_ms=NOW_MS)
    assert give(database, given) == [Outcome.ACCEPTED]
    assert sums(database, endpoint_id) == {Cell(two_arms, CHALLENGER, 2): (1, 1)}


def test_feedback_is_taken_from_those_who_may_ask_the_endpoint(database, endpoint_id, predicted):
    given = predicted(), "a"
    assert give(database, given, may_ask=lambda name, model: (name, model) != ("iris", "iris")) == [
        Outcome.NOT_PERMITTED
    ]
    assert sums(database, endpoint_id) == {}
    assert give(database, given) == [Outcome.ACCEPTED]


def test_an_old_key_proves_what_it_signed_and_nothing_that_it_could_not_have(database, key, predicted):
    with database.writing() as session:
        prediction_keys.rotate(session, now_ms=NOW_MS)
    later_ms = NOW_MS + ROTATION_MS
    given = [(predicted("a"), "a"), (predicted("a", at_ms=later_ms), "a"), (predicted("a", at_ms=later_ms + 1), "a")]
    assert give(database, *given, now_ms=later_ms) == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.FORGED]
    with database.writing() as session:
        prediction_keys.rotate(session, now_ms=NOW_MS, forget_old=True)
    assert give(database, (predicted("a"), "a")) == [Outcome.FORGED]


def test_an_endpoint_that_goes_meanwhile_leaves_nothing_behind(database, endpoint_id, predicted):
    with database.reading() as session:
        judged, _ = judge(session, [Item(predicted(), "a")], may_ask=lambda *_: True, now_ms=NOW_MS, kept_ms=KEPT_MS)
    with database.writing() as session:
        endpoints.model_was_deleted(session, "iris")
    with database.writing() as session:
        assert [one.outcome for one in keep(session, judged)] == [Outcome.UNMATCHED]
