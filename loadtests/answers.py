"""What a right answer of the iris endpoint looks like, and the rows to ask it about.

Decisions only: no clock, no socket and no Locust, so that a test can call them. Randomness comes in as a generator.
"""

import json
from collections.abc import Collection, Mapping
from random import Random

IRIS_RANGES_CM = ((4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5))
"""Smallest and largest value of each column in Fisher's data: sepal length and width, petal length and width."""

IRIS_CLASSES = frozenset({0, 1, 2})

ARM_HEADER = "X-Titlebout-Arm"
EPOCH_HEADER = "X-Titlebout-Epoch"
FALLBACK_HEADER = "X-Titlebout-Fallback-From"
UNIT_HEADER = "X-Titlebout-Unit"
VERSION_HEADER = "X-Titlebout-Version"


class WrongAnswer(Exception):
    """An answer that arrived and is not one that the gateway may give; the message says what was expected."""


def draw_rows(random: Random, rows: int) -> list[list[float]]:
    """Draw *rows* flowers, each column evenly from its range."""
    return [[round(random.uniform(low, high), 1) for low, high in IRIS_RANGES_CM] for _ in range(rows)]


def check_answer(status: int, headers: Mapping[str, str], body: bytes, *, rows: int, arms: Collection[str]) -> None:
    """Accept an answer to *rows* rows from any of *arms*.

    Raises:
        WrongAnswer: for any other status, for predictions that are too few, too many or no class of iris, and for
            headers that don't say which arm and version answered.
    """
    if status != 200:
        raise WrongAnswer(f"status {status}, expected 200: {body[:200].decode(errors='replace')}")
    _check_predictions(body, rows)
    arm = headers.get(ARM_HEADER)
    if arm not in arms:
        raise WrongAnswer(f"{ARM_HEADER} is {arm!r}, expected one of {', '.join(sorted(arms))}")
    version = headers.get(VERSION_HEADER) or ""
    if not version.isdecimal():
        raise WrongAnswer(f"{VERSION_HEADER} is {version!r}, expected a number")


def _check_predictions(body: bytes, rows: int) -> None:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise WrongAnswer("the body is not JSON") from error
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(predictions, list):
        raise WrongAnswer("the body has no list `predictions`")
    if len(predictions) != rows:
        raise WrongAnswer(f"{len(predictions)} predictions for {rows} rows")
    strangers = [value for value in predictions if not _is_iris_class(value)]
    if strangers:
        raise WrongAnswer(f"{strangers[0]!r} is not a class of iris")


def _is_iris_class(value: object) -> bool:
    # True == 1 in Python, and [] has no hash: look at the type before the set.
    return isinstance(value, int) and not isinstance(value, bool) and value in IRIS_CLASSES


class Stickiness:
    """Remembers which arm answered one unit, and refuses another one.

    The arm may change only together with the epoch: a new routing table may hold new shares. An answer that fell back
    from a failing arm is no assignment and is passed over.
    """

    def __init__(self) -> None:
        self._epoch: str | None = None
        self._arm: str | None = None

    def check(self, headers: Mapping[str, str]) -> None:
        """Take note of one right answer.

        Raises:
            WrongAnswer: if the unit has changed its arm within an epoch.
        """
        if headers.get(FALLBACK_HEADER):
            return
        epoch, arm = headers.get(EPOCH_HEADER), headers.get(ARM_HEADER)
        if self._arm is not None and epoch == self._epoch and arm != self._arm:
            raise WrongAnswer(f"a unit moved from {self._arm} to {arm} within epoch {epoch}")
        self._epoch, self._arm = epoch, arm
