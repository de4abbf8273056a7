"""The offset between two clocks is as exact as the quickest of the last questions, and follows a clock that is set."""

import pytest

from gateway.pool.clock_offset import ClockOffset


def learned(*questions):
    offset = ClockOffset()
    for asked_s, database_s, answered_s in questions:
        offset.learn(asked_s, database_s, answered_s)
    return offset.seconds


def test_before_anything_is_learned_both_are_the_same():
    assert learned() == 0.0


def test_the_quickest_question_says_it_best():
    slow = [(number, number + 5.3, number + 0.4) for number in range(1, 6)]
    assert learned(*slow[:2], (0.0, 5.001, 0.002), *slow[2:]) == pytest.approx(5.0)


def test_a_question_that_hung_hardly_counts():
    assert learned((0.0, 5.001, 0.002), (1.0, 15.0, 11.0)) == pytest.approx(5.0)


def test_a_clock_that_is_set_is_followed_at_once():
    assert learned((0.0, 5.0, 0.0), (1.0, 9.0, 1.0)) == pytest.approx(8.0)


def test_what_was_asked_long_ago_is_forgotten():
    assert learned((0.0, 5.0, 0.0), *[(n, n + 5.1, n + 0.2) for n in range(1, 11)]) == pytest.approx(5.0)
    assert learned((0.0, 5.0, 0.0), *[(n, n + 5.0, n + 0.2) for n in range(1, 11)]) == pytest.approx(4.9)
