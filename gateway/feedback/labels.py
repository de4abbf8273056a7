"""What a label or a reward says of a prediction, as amounts to be summed. Pure.

What was predicted decides what may be said of it. A bool, an int and a text are classes, and a label names the class
that it was. A float is a number, and a label the number that it should have been; or, where the label is true or false,
it is a probability, and the label says whether that came true. A reward says by itself how good an answer was.
"""

import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from gateway.comparison.single_predictions import Value
from gateway.feedback.prediction_ids import LongClass, long_class
from registry.tallies import Kind
from tracking.errors import InvalidParameter, NotFound

Label = bool | int | float | str

NUMBER_MAX = 1e60
"""Of rewards, and of how far a number may be off: its fourth power is summed."""
_CLIP = 1e-7
"""As close as probabilities come to 0 and 1 before a loss is taken of them; about as close as a 32-bit float comes."""
_SUM_TOLERANCE = 1e-3
"""How far from 1 probabilities may add up to: models that answer in 16 bits are off by as much."""
_BINARY = 2
_POSITIVE = frozenset({"1", "true", "yes", "positive"})
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


class WrongLabel(InvalidParameter):
    """One that this prediction can't be compared with."""

    def __init__(self, expected: str, label: Label) -> None:
        super().__init__(f"The label {str(label)[:100]!r} can't be compared with what was predicted: {expected}.")


class NoProbabilities(NotFound):
    """Several numbers that aren't those of classes: no label says anything of them."""

    def __init__(self) -> None:
        super().__init__("The answer was several numbers that aren't the probabilities of classes.")


class RewardTooLarge(InvalidParameter):
    def __init__(self) -> None:
        super().__init__(f"A reward is a number from {-NUMBER_MAX:g} to {NUMBER_MAX:g}.")


class Calibrated(NamedTuple):
    """A probability, and what came of it."""

    probability: float
    came_true: bool


class Said(NamedTuple):
    """What one item of feedback adds."""

    kind: Kind
    amounts: tuple[float, ...]
    """In the order of the layout of the kind, `gateway.comparison.sums`."""
    calibrated: Calibrated | None = None


def compare(prediction: Value | LongClass, label: Label) -> Said:
    """What *label* says of *prediction*.

    Raises:
        WrongLabel: if it is of another kind, or too far off to be summed.
    """
    if not isinstance(prediction, float):
        return _of_class(prediction, label)
    if isinstance(label, bool):
        return _of_probability(prediction, came_true=label)
    return _of_number(prediction, label)


def compare_probabilities(probabilities: Sequence[float | None], label: Label) -> Said:
    """What *label*, the place of a class from 0, says of the *probabilities* of all classes.

    Raises:
        NoProbabilities: if these are none.
        WrongLabel: if the label is no place among them.
    """
    shares = [share for share in probabilities if share is not None and 0 <= share <= 1]
    if len(shares) < len(probabilities) or abs(sum(shares) - 1) > _SUM_TOLERANCE:
        raise NoProbabilities
    place = int(_like(0, label))
    if not 0 <= place < len(shares):
        raise WrongLabel(f"it was the probabilities of {len(shares)} classes, which are counted from 0", label)
    predicted = shares.index(max(shares))
    is_binary = len(shares) == _BINARY
    return _classes(
        is_correct=predicted == place,
        predicted=_is_positive(predicted),
        actual=_is_positive(place),
        log_loss=-math.log(min(max(shares[place], _CLIP), 1 - _CLIP)),
        brier=sum((share - (at == place)) ** 2 for at, share in enumerate(shares)),
        calibrated=Calibrated(shares[1], bool(place)) if is_binary else None,
    )


def reward(value: float) -> Said:
    """What a reward adds.

    Raises:
        RewardTooLarge: if it is no number that can be summed.
    """
    if not abs(value) <= NUMBER_MAX:
        raise RewardTooLarge
    return Said(Kind.REWARDS, (1.0, value, value * value))


# --- classes


def _of_class(prediction: bool | int | str | LongClass, label: Label) -> Said:
    if isinstance(prediction, LongClass):
        # Whatever it says, it is longer than any word for "yes".
        said = _whole(label) if not isinstance(label, str) else label
        return _classes(
            is_correct=long_class(str(said)) == prediction, predicted=False, actual=str(said).lower() in _POSITIVE
        )
    actual = _like(prediction, label)
    return _classes(is_correct=actual == prediction, predicted=_is_positive(prediction), actual=_is_positive(actual))


def _like(prediction: bool | int | str, label: Label) -> bool | int | str:
    """*label* as the kind of class that *prediction* is: files of labels have text for numbers, and 2.0 for 2."""
    if isinstance(prediction, bool):
        truth = _TRUTHS.get(str(_whole(label)).lower())
        if truth is None:
            raise WrongLabel("it was true or false", label)
        return truth
    if isinstance(prediction, int):
        try:
            return int(_whole(label))
        except ValueError:
            raise WrongLabel("it was a class with a whole number", label) from None
    if isinstance(label, bool):
        # As Python would write it, or JSON, or who counts.
        spellings = (str(label), str(label).lower(), str(int(label)))
        return next((text for text in spellings if text == prediction), str(label).lower())
    if isinstance(label, str):
        return label
    number = _find_number(prediction)
    if number is None:
        return str(_whole(label))
    # Classes may be called "1.0" or "007", and whoever wrote the label down may have lost how.
    if number == Decimal(repr(label)):
        return prediction
    return str(int(label)) if label == int(label) else str(label)


def _find_number(text: str) -> Decimal | None:
    """The number that is the name of a class; None if it is none."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _whole(label: Label) -> bool | int | str:
    if isinstance(label, float):
        if not label.is_integer():
            raise WrongLabel("it was a class, which is a text, a whole number, or true or false", label)
        return int(label)
    return label


def _is_positive(value: bool | int | str) -> bool:
    return str(value).lower() in _POSITIVE


def _classes(
    *,
    is_correct: bool,
    predicted: bool,
    actual: bool,
    log_loss: float = 0.0,
    brier: float = 0.0,
    calibrated: Calibrated | None = None,
) -> Said:
    return Said(
        Kind.CLASSES,
        (
            1.0,
            float(is_correct),
            log_loss,
            log_loss * log_loss,
            brier,
            brier * brier,
            float(predicted and actual),
            float(predicted and not actual),
            float(actual and not predicted),
        ),
        calibrated,
    )


# --- probabilities and numbers


def _of_probability(probability: float, *, came_true: bool) -> Said:
    if not 0 <= probability <= 1:
        raise WrongLabel(f"{probability:g} is no probability, so a number is expected", came_true)
    predicted, of_what_came = probability >= 0.5, probability if came_true else 1 - probability
    return _classes(
        is_correct=predicted == came_true,
        predicted=predicted,
        actual=came_true,
        log_loss=-math.log(min(max(of_what_came, _CLIP), 1 - _CLIP)),
        # Over both classes, which are off by the same.
        brier=2 * (1 - of_what_came) ** 2,
        calibrated=Calibrated(probability, came_true),
    )


def _of_number(number: float, label: float | str) -> Said:
    if isinstance(label, str):
        raise WrongLabel("it was a number", label)
    try:
        error = abs(number - label)
    except OverflowError:
        error = math.inf
    if not error <= NUMBER_MAX:
        raise WrongLabel(f"it is off by more than {NUMBER_MAX:g}", label)
    squared = error * error
    return Said(Kind.NUMBERS, (1.0, error, squared, squared * squared))
