"""What labels say of predictions, by what was predicted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.comparison.kept_sums import LAYOUTS
from gateway.comparison.sums import Column
from gateway.feedback.labels import (
    NUMBER_MAX,
    NoProbabilities,
    RewardTooLarge,
    WrongLabel,
    compare,
    compare_probabilities,
    reward,
)
from gateway.feedback.prediction_ids import long_class
from registry.tallies import Kind

LONG = "a class with a name too long for an id"


def amounts(said):
    return {column: amount for column, amount in zip(LAYOUTS[said.kind], said.amounts, strict=True) if amount}


@pytest.mark.parametrize(
    ("prediction", "label", "is_correct"),
    [
        ("setosa", "setosa", True),
        ("setosa", "virginica", False),
        ("2", 2, True),
        ("true", True, True),
        ("True", True, True),
        ("True", False, False),
        ("1.0", 1.0, True),
        ("1.0", 1, True),
        ("1.0", 2.0, False),
        ("0.5", 0.5, True),
        ("0.5", 0.7, False),
        ("1e3", 1000.0, True),
        ("007", 7, True),
        ("007", "7", False),
        ("9007199254740993", 9007199254740992, False),
        ("sNaN", "sNaN", True),
        ("1", True, True),
        ("0", True, False),
        (2, 2, True),
        (2, "2", True),
        (2, 2.0, True),
        (2, 3, False),
        (1, True, True),
        (True, True, True),
        (True, "true", True),
        (True, 0, False),
        (False, "0", True),
        (long_class(LONG), LONG, True),
        (long_class(LONG), "setosa", False),
        (long_class(LONG), 3, False),
    ],
)
def test_a_class_is_right_if_the_label_names_it(prediction, label, is_correct):
    said = compare(prediction, label)
    assert said.kind is Kind.CLASSES
    assert amounts(said)[Column.LABELS] == 1
    assert (Column.CORRECT in amounts(said)) is is_correct


@pytest.mark.parametrize(
    ("prediction", "label", "column"),
    [
        (1, 1, Column.TRUE_POSITIVES),
        (1, 0, Column.FALSE_POSITIVES),
        (0, 1, Column.FALSE_NEGATIVES),
        (0, 2, None),
        ("0", 1.0, Column.FALSE_NEGATIVES),
        ("Yes", "no", Column.FALSE_POSITIVES),
        ("negative", "positive", Column.FALSE_NEGATIVES),
        (True, True, Column.TRUE_POSITIVES),
        (0.5, True, Column.TRUE_POSITIVES),
        (0.49, True, Column.FALSE_NEGATIVES),
        (0.5, False, Column.FALSE_POSITIVES),
        (long_class(LONG), "yes", Column.FALSE_NEGATIVES),
    ],
)
def test_one_class_is_the_positive_one(prediction, label, column):
    of_f1 = {Column.TRUE_POSITIVES, Column.FALSE_POSITIVES, Column.FALSE_NEGATIVES}
    assert of_f1 & amounts(compare(prediction, label)).keys() == ({column} if column else set())


def test_a_probability_has_losses_and_is_calibrated():
    said = compare(0.8, True)
    assert amounts(said) == pytest.approx(
        {
            Column.LABELS: 1, Column.CORRECT: 1, Column.TRUE_POSITIVES: 1,
            Column.LOG_LOSS: -math.log(0.8), Column.LOG_LOSS_SQUARES: math.log(0.8) ** 2,
            Column.BRIER: 0.08, Column.BRIER_SQUARES: 0.0064,
        }
    )  # fmt: skip
    assert said.calibrated == (0.8, True)
    assert amounts(compare(0.0, True))[Column.LOG_LOSS] == pytest.approx(-math.log(1e-7))


def test_a_number_is_off_by_so_much():
    said = compare(3.5, 1)
    assert said.kind is Kind.NUMBERS
    assert amounts(said) == {
        Column.LABELS: 1, Column.ERRORS: 2.5, Column.SQUARED_ERRORS: 6.25, Column.FOURTH_POWERS: 39.0625,
    }  # fmt: skip
    # Not a probability: the label is a number.
    assert compare(0.5, 1).kind is Kind.NUMBERS


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        (2, "setosa"), (2, 2.5), (2, math.inf), ("setosa", 0.5), (True, 2), (True, "maybe"), (long_class(LONG), 0.1),
        (1.5, True), (1.5, "1.5"), (1.5, 10**400), (1.5, 2 * NUMBER_MAX), (1.5, math.inf), (1.5, math.nan),
        (1e300, -1e300), (2, "9" * 5_000),
    ],
)  # fmt: skip
def test_a_label_of_another_kind_is_refused_in_words(prediction, label):
    with pytest.raises(WrongLabel, match="can't be compared"):
        compare(prediction, label)


def test_rewards_are_numbers_that_can_be_summed():
    assert amounts(reward(-2)) == {Column.LABELS: 1, Column.REWARDS: -2, Column.REWARD_SQUARES: 4}
    for value in (math.nan, math.inf, -2 * NUMBER_MAX):
        with pytest.raises(RewardTooLarge):
            reward(value)


@given(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    st.booleans() | st.integers() | st.floats() | st.text(),
)
def test_whatever_is_said_is_refused_or_can_be_summed_many_times(prediction, label):
    try:
        said = compare(prediction, label)
    except WrongLabel:
        return
    assert len(said.amounts) == len(LAYOUTS[said.kind])
    assert all(math.isfinite(amount * 1e12) for amount in said.amounts)


@pytest.mark.parametrize(
    ("probabilities", "label", "expected"),
    [
        ((0.2, 0.7, 0.1), 1, {Column.LABELS: 1, Column.CORRECT: 1, Column.TRUE_POSITIVES: 1}),
        ((0.2, 0.7, 0.1), "2", {Column.LABELS: 1, Column.FALSE_POSITIVES: 1}),
        ((0.5, 0.4999), 0.0, {Column.LABELS: 1, Column.CORRECT: 1}),
    ],
)
def test_a_label_of_probabilities_is_the_place_of_a_class(probabilities, label, expected):
    said = compare_probabilities(probabilities, label)
    losses = {Column.LOG_LOSS, Column.LOG_LOSS_SQUARES, Column.BRIER, Column.BRIER_SQUARES}
    assert {column: amount for column, amount in amounts(said).items() if column not in losses} == expected
    assert amounts(said)[Column.LOG_LOSS] == pytest.approx(-math.log(probabilities[int(label)]))
    truth = [place == int(label) for place in range(len(probabilities))]
    brier = sum((share - true) ** 2 for share, true in zip(probabilities, truth, strict=True))
    assert amounts(said)[Column.BRIER] == pytest.approx(brier)


def test_two_probabilities_are_calibrated_as_one_is():
    assert compare_probabilities((0.25, 0.75), 1).calibrated == compare(0.75, label=True).calibrated
    assert compare_probabilities((0.2, 0.7, 0.1), 1).calibrated is None


@pytest.mark.parametrize("numbers", [(3.0, -1.0), (0.5, 0.4), (0.5, None), (1.5, -0.5)])
def test_other_numbers_are_no_probabilities(numbers):
    with pytest.raises(NoProbabilities):
        compare_probabilities(numbers, 0)


@pytest.mark.parametrize("label", [-1, 3, "a", 0.5])
def test_what_is_no_place_of_a_class_is_wrong(label):
    with pytest.raises(WrongLabel):
        compare_probabilities((0.2, 0.7, 0.1), label)
