"""What a worker has counted of each arm's answers and not yet written to the database.

On a prediction's way its figures are appended to arrays, and nothing else; whoever writes makes sums of them. Only
what the split gave to an arm is counted: who named an arm or a version chose for themselves.
"""

from array import array
from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np

from gateway.comparison.distribution import NAME_CHARACTERS_MAX, Distribution
from gateway.comparison.latency_counts import counts_of, no_requests
from gateway.comparison.single_predictions import Value
from gateway.comparison.sums import CLUSTERS, SERVING, ClusterSums, Column
from registry.entities import Cell

NOTED_MAX = 16_384
"""Answers of one arm that are kept one by one, more than a worker gives in a second; over it they are added up here."""

Place = tuple[str, Cell]
"""An endpoint's id, and whose sums they are."""
Note = Callable[[int, int, float, Value | None, bool], None]
"""Told of one answer: its bucket, status, seconds, the prediction if that is one value, and if there was no unit."""
# Bits of a mark: 14 of the bucket, one of whether there was no unit, and the status above them.
_UNITLESS_BIT, _STATUS_BIT = 14, 15
_BUCKET = (1 << _UNITLESS_BIT) - 1


class Noted:
    """Answers of one arm, one by one.

    Flat, as a tuple for each would have the garbage collector walk through all of them again and again: that cost a
    prediction more than the noting.
    """

    __slots__ = ("marks", "predictions", "took_s")

    def __init__(self) -> None:
        self.marks = array("I")
        """Bucket, unitless and status of each."""
        self.took_s = array("d")
        self.predictions: list[Value] = []
        """Of those that were one class or one number."""

    def taken(self) -> "Noted":
        """All of them; none are left here."""
        taken = Noted()
        taken.extend(self)
        # The same arrays go on being filled.
        del self.marks[:], self.took_s[:], self.predictions[:]
        return taken

    def extend(self, other: "Noted") -> None:
        """Have the answers of *other* as well."""
        self.marks += other.marks
        self.took_s += other.took_s
        self.predictions += other.predictions


class ArmSums:
    """Of one arm's version in one period. Over *slow_s* an answer is slow; 0: none is."""

    __slots__ = ("latency", "predictions", "serving", "slow_s")

    def __init__(self, slow_s: float) -> None:
        self.slow_s = slow_s
        self.serving = ClusterSums(SERVING)
        self.latency = no_requests()
        self.predictions = Distribution()

    def add(self, noted: Noted) -> None:
        """Count answers, of which there must be one.

        A request that was refused for what its caller did was asked of the arm and is no failure; how soon it was
        refused says nothing of the arm.
        """
        marks, took = np.frombuffer(noted.marks, dtype=np.uint32), np.frombuffer(noted.took_s)
        status = marks >> _STATUS_BIT
        answered = (status < 400) | (status >= 500)
        is_slow = answered & (took > self.slow_s) if self.slow_s else np.zeros(len(took))
        self.serving.add_many(
            (marks & _BUCKET) % CLUSTERS,
            {
                Column.REQUESTS: np.ones(len(took)),
                Column.UNITLESS: (marks >> _UNITLESS_BIT & 1).astype(np.float64),
                Column.FAILURES: (status >= 500).astype(np.float64),
                Column.SLOW: is_slow.astype(np.float64),
            },
        )
        self.latency += counts_of(took[answered])
        self._add_predictions(noted.predictions)

    def _add_predictions(self, predictions: list[Value]) -> None:
        # By type, as True is 1 and another class.
        kinds = set(map(type, predictions))
        for kind in kinds:
            of_kind = predictions if len(kinds) == 1 else [each for each in predictions if type(each) is kind]
            if kind is float:
                self.predictions.add_numbers(np.array(of_kind))
            else:
                self.predictions.add_classes(Counter({str(each): n for each, n in Counter(of_kind).items()}))

    def merge(self, other: "ArmSums") -> None:
        """Count what *other* has counted as well."""
        self.serving.merge(other.serving)
        self.latency += other.latency
        self.predictions.merge(other.predictions)


class Counting:
    """What is counted in this worker. Used on its event loop; what `take` gives belongs to whoever took it."""

    def __init__(self, *, slow_s: float = 0.0) -> None:
        self._slow_s = slow_s
        self._busy: list[ArmCounter] = []
        self._sums: dict[Place, ArmSums] = {}

    def counter(self, place: Place) -> "ArmCounter":
        """What counts one arm's answers. There may be several of one place."""
        return ArmCounter(place, self)

    def take(self) -> dict[Place, "Taken"]:
        """What was counted since this was called last."""
        taken = {place: Taken(sums) for place, sums in self._sums.items()}
        for busy in self._busy:
            taken.setdefault(busy.place, Taken(ArmSums(self._slow_s))).noted.extend(busy.take())
        self._sums, self._busy = {}, []
        return taken

    def will_be_asked(self, counter: "ArmCounter") -> None:
        """Have the next `take` ask *counter*."""
        self._busy.append(counter)

    def add(self, place: Place, noted: Noted) -> None:
        """Add up now what would grow too long."""
        sums = self._sums.get(place) or self._sums.setdefault(place, ArmSums(self._slow_s))
        sums.add(noted)


class Taken(msgspec.Struct, frozen=True, eq=False):
    """What was counted of one arm in a while."""

    sums: ArmSums
    """Of a part of it, or of none."""
    noted: Noted = msgspec.field(default_factory=Noted)

    def added_up(self) -> ArmSums:
        """The sums of all of it. Takes a millisecond for a few thousand answers, so not on an event loop."""
        if self.noted.marks:
            self.sums.add(self.noted.taken())
        return self.sums


class ArmCounter:
    """Counts the answers of one arm's version in one period."""

    __slots__ = ("_noted", "note", "place")

    def __init__(self, place: Place, counting: Counting) -> None:
        self.place = place
        self._noted = Noted()
        self.note = self._noter(counting)
        """Count one answer: what gave it to the arm, how it ended and when, and what was predicted."""

    def take(self) -> Noted:
        """The answers that were counted since this was called last."""
        return self._noted.taken()

    def _noter(self, counting: Counting) -> Note:
        # One function with all at hand, for the reason that `gateway.feedback.prediction_ids.id_maker` gives.
        marks, predictions = self._noted.marks, self._noted.predictions
        add_mark, add_time, add_prediction = marks.append, self._noted.took_s.append, predictions.append

        def note(bucket: int, status: int, took_s: float, prediction: Value | None, unitless: bool) -> None:
            if not marks:
                counting.will_be_asked(self)
            add_mark(status << _STATUS_BIT | unitless << _UNITLESS_BIT | bucket)
            add_time(took_s)
            if prediction is not None:
                # A generated text may be long, and no more of it is kept.
                add_prediction(prediction if type(prediction) is not str else prediction[:NAME_CHARACTERS_MAX])
            if len(marks) >= NOTED_MAX:
                counting.add(self.place, self.take())

        return note
