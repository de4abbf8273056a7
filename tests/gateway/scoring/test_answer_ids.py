"""The id of an answer: of whom, by which key, and what it leaves out."""

import pytest

from gateway.feedback.prediction_ids import by_tag, read_id
from gateway.routing_table import Choice
from gateway.scoring.answer_ids import AnswerIds
from registry.entities import NO_PERIOD, PredictionKey

KEY = PredictionKey(id="0a0b0c0d", secret=bytes(32), made_ms=0)
CHOICE = Choice("iris", "iris", 3, "champion", 7, endpoint_id="ab" * 16, period=5)


def answered(choice=CHOICE, *, bucket=7, single="setosa"):
    ids = AnswerIds(clock_ns=lambda: 1_500_000_000)
    ids.use(KEY)
    return read_id(ids.maker(choice)(bucket, single).decode(), {KEY.id: KEY})


def test_an_id_says_who_answered_and_when():
    found = answered()
    assert (found.endpoint_id, found.period, found.version, found.at_ms) == ("ab" * 16, 5, 3, 1500)
    assert (found.bucket, found.prediction) == (7, "setosa")
    assert by_tag(["challenger", "champion"])[found.arm_tag] == "champion"


@pytest.mark.parametrize("single", [None, float("nan"), 2**70])
def test_a_value_that_has_no_label_is_left_out(single):
    assert answered(single=single).prediction is None


def test_nothing_is_compared_while_the_split_is_not_whole():
    assert answered(Choice("iris", "iris", 3, "champion", 7, endpoint_id="ab" * 16, period=NO_PERIOD)).bucket is None
    assert answered(bucket=None).bucket is None


def test_no_two_answers_have_one_id_and_none_has_one_before_there_is_a_key():
    ids = AnswerIds(clock_ns=lambda: 1_500_000_000)
    assert ids.maker(CHOICE) is None
    changes = []
    ids.when_changed = lambda: changes.append(1)
    ids.use(KEY)
    assert changes == [1]
    maker = ids.maker(CHOICE)
    assert len({maker(7, "setosa") for _ in range(1_000)}) == 1_000
