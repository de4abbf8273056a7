"""What a request will have to wait is foretold from what others waited, and soon put right where it was wrong."""

import pytest

from gateway.scoring.pace import Pace


def learned(*messages):
    pace = Pace()
    for rows, took_s in messages:
        pace.learn(rows, took_s)
    return pace


def test_nothing_is_expected_of_a_model_that_has_not_answered_yet():
    assert Pace().expected_s(10, 1_000) == 0


@pytest.mark.parametrize(
    ("messages", "asked", "expected_s"),
    [
        pytest.param([(1, 0.01)] * 5, (100, 100), 1.0, id="one row each, one after the other"),
        pytest.param([(1, 0.01)] * 5, (1, 100), 0.01, id="rows are free until one message shows that they aren't"),
        pytest.param([(1, 0.01), (100, 0.01)], (1, 1_000), 0.01, id="rows that cost nothing"),
        pytest.param([(1, 0.01), (100, 1.0)], (1, 1_000), 10.0, id="rows that cost everything"),
        pytest.param([(10, 0.03), (20, 0.05), (30, 0.07)], (2, 100), 0.22, id="both count"),
        pytest.param([(1, 0.02), (2, 0.01)] * 5, (1, 100), 0.015, id="more rows in less time are chance"),
        pytest.param([(0, 0.01)] * 3, (2, 0), 0.02, id="messages without rows"),
    ],
)
def test_messages_and_rows_are_told_apart(messages, asked, expected_s):
    assert learned(*messages).expected_s(*asked) == pytest.approx(expected_s, rel=0.05)


def test_a_row_never_costs_more_than_its_share_of_what_was_measured():
    pace = learned((1, 0.001), (2, 0.1))
    assert pace.expected_s(1, 100) <= 100 * (0.101 / 3) * 1.01


def test_a_slow_beginning_and_a_change_are_soon_forgotten():
    assert learned((1, 2.0), *[(1, 0.001)] * 20).expected_s(1, 1) < 0.3
    assert learned(*[(1, 0.001)] * 1_000, *[(1, 0.1)] * 20).expected_s(1, 1) > 0.08


def test_caution_is_for_messages_that_scatter():
    even, uneven = learned(*[(1, 0.01)] * 50), learned(*[(1, 0.008), (1, 0.012)] * 50)
    assert even.cautious_s(1) == pytest.approx(0.01)
    assert uneven.cautious_s(1) == pytest.approx(0.014, rel=0.1)


def test_caution_ends_at_twice_what_is_expected():
    pace = learned(*[(1, 0.01)] * 50, (1, 1.0))
    assert pace.cautious_s(1) == pytest.approx(2 * pace.expected_s(1, 1))
