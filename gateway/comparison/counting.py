"""What a worker has counted of each arm's answers and not yet written to the database.

On a prediction's way a tuple is appended to a list, and nothing else; whoever writes makes sums of the list. Only what
the split gave to an arm is counted: who named an arm or a version chose for themselves.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from gateway.comparison.distribution import Distribution
from gateway.comparison.latency_counts import counts_of, no_requests
from gateway.comparison.single_predictions import Value
from gateway.comparison.sums import CLUSTERS, SERVING, ClusterSums, Column
from registry.entities import Cell

NOTED_MAX = 16_384
"""Answers of one arm that are kept one by one, more than a worker gives in a second; over it they are added up here."""

Place = tuple[str, Cell]
"""An endpoint's id, and whose sums they are."""
Noted = tuple[int, bool, int, float, Value | None]
"""One answer: bucket, whether there was no unit, status, seconds, and what was predicted."""


class ArmSums:
    """Of one arm's version in one period. Over *slow_s* an answer is slow; 0: none is."""

    __slots__ = ("latency", "predictions", "serving", "slow_s")

    def __init__(self, slow_s: float) -> None:
        self.slow_s = slow_s
        self.serving = ClusterSums(SERVING)
        self.latency = no_requests()
        self.predictions = Distribution()

    def add(self, noted: Sequence[Noted]) -> None:
        """Count answers, of which there must be one.

        A request that was refused for what its caller did was asked of the arm and is no failure; how soon it was
        refused says nothing of the arm.
        """
        buckets, unitless, statuses, took_s, predictions = zip(*noted, strict=True)
        status, took = np.array(statuses), np.array(took_s)
        answered = (status < 400) | (status >= 500)
        is_slow = answered & (took > self.slow_s) if self.slow_s else np.zeros(len(took))
        self.serving.add_many(
            np.array(buckets) % CLUSTERS,
            {
                Column.REQUESTS: np.ones(len(took)),
                Column.UNITLESS: np.array(unitless, dtype=np.float64),
                Column.FAILURES: (status >= 500).astype(np.float64),
                Column.SLOW: is_slow.astype(np.float64),
            },
        )
        self.latency += counts_of(took[answered])
        self.predictions.add_numbers(np.array([each for each in predictions if type(each) is float]))
        self.predictions.add_classes(
            Counter(str(each) for each in predictions if each is not None and type(each) is not float)
        )

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

    def add(self, place: Place, noted: list[Noted]) -> None:
        """Add up now what would grow too long."""
        sums = self._sums.get(place) or self._sums.setdefault(place, ArmSums(self._slow_s))
        sums.add(noted)


class Taken(msgspec.Struct, frozen=True, eq=False):
    """What was counted of one arm in a while."""

    sums: ArmSums
    """Of a part of it, or of none."""
    noted: list[Noted] = []

    def added_up(self) -> ArmSums:
        """The sums of all of it. Takes a millisecond for a few thousand answers, so not on an event loop."""
        if self.noted:
            self.sums.add(self.noted)
            self.noted.clear()
        return self.sums


class ArmCounter:
    """Counts the answers of one arm's version in one period."""

    __slots__ = ("_counting", "_noted", "place")

    def __init__(self, place: Place, counting: Counting) -> None:
        self.place = place
        self._counting = counting
        self._noted: list[Noted] = []

    def note(self, answer: Noted) -> None:
        """Count one answer."""
        noted = self._noted
        if not noted:
            self._counting.will_be_asked(self)
        noted.append(answer)
        if len(noted) >= NOTED_MAX:
            self._counting.add(self.place, self.take())

    def take(self) -> list[Noted]:
        """The answers that were counted since this was called last."""
        noted, self._noted = self._noted, []
        return noted
