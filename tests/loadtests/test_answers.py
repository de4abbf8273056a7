import json
from random import Random

import pytest

from loadtests.answers import IRIS_RANGES_CM, Stickiness, WrongAnswer, check_answer, draw_rows

ARMS = frozenset({"champion", "challenger"})
HEADERS = {"X-Titlebout-Arm": "champion", "X-Titlebout-Version": "3", "X-Titlebout-Epoch": "7"}


def check(predictions, status=200, headers=HEADERS, rows=2):
    check_answer(status, headers, json.dumps({"predictions": predictions}).encode(), rows=rows, arms=ARMS)


def test_an_answer_with_one_class_for_each_row_is_accepted():
    check([0, 2])


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        pytest.param({"predictions": [0, 1], "status": 503}, "status 503", id="not a success"),
        pytest.param({"predictions": [0]}, "1 predictions for 2 rows", id="too few"),
        pytest.param({"predictions": [0, 1, 1]}, "3 predictions for 2 rows", id="too many"),
        pytest.param({"predictions": [0, 3]}, "3 is not a class", id="no such class"),
        pytest.param({"predictions": [0, True]}, "True is not a class", id="a truth value"),
        pytest.param({"predictions": [0, [1]]}, r"\[1\] is not a class", id="a list"),
        pytest.param({"predictions": "01"}, "no list `predictions`", id="no list"),
        pytest.param({"predictions": [0, 1], "headers": {}}, "X-Titlebout-Arm is None", id="no arm"),
        pytest.param(
            {"predictions": [0, 1], "headers": HEADERS | {"X-Titlebout-Arm": "staging"}},
            "expected one of challenger, champion",
            id="not an arm of the endpoint",
        ),
        pytest.param(
            {"predictions": [0, 1], "headers": HEADERS | {"X-Titlebout-Version": "latest"}},
            "X-Titlebout-Version is 'latest'",
            id="no version number",
        ),
    ],
)
def test_a_wrong_answer_is_refused_with_what_was_expected(answer, what):
    with pytest.raises(WrongAnswer, match=what):
        check(**answer)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[0, 1]", b"null"])
def test_a_body_that_is_no_answer_is_refused(body):
    with pytest.raises(WrongAnswer):
        check_answer(200, HEADERS, body, rows=2, arms=ARMS)


def test_a_unit_may_not_change_its_arm_within_an_epoch():
    stickiness = Stickiness()
    stickiness.check(HEADERS)
    stickiness.check(HEADERS)
    with pytest.raises(WrongAnswer, match="moved from champion to challenger within epoch 7"):
        stickiness.check(HEADERS | {"X-Titlebout-Arm": "challenger"})


def test_a_new_epoch_may_bring_a_unit_to_another_arm_where_it_then_stays():
    stickiness = Stickiness()
    stickiness.check(HEADERS)
    moved = HEADERS | {"X-Titlebout-Arm": "challenger", "X-Titlebout-Epoch": "8"}
    stickiness.check(moved)
    with pytest.raises(WrongAnswer):
        stickiness.check(moved | {"X-Titlebout-Arm": "champion"})


def test_an_answer_that_fell_back_is_no_assignment():
    stickiness = Stickiness()
    stickiness.check(HEADERS | {"X-Titlebout-Arm": "challenger"})
    stickiness.check(HEADERS | {"X-Titlebout-Fallback-From": "challenger"})


def test_rows_stay_within_the_ranges_of_iris():
    rows = draw_rows(Random(1), 100)
    assert len(rows) == 100
    assert all(low <= value <= high for row in rows for value, (low, high) in zip(row, IRIS_RANGES_CM, strict=True))
