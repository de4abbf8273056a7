"""What is kept of the traffic to compare arms by: sums by cluster, which merge.

A unit (a user, a session) asks more than once, and its requests resemble each other, so that they say less than as many
requests of strangers. A difference is therefore judged by clusters of units that are independent of each other, and a
cluster is where the hash of the unit says: no table of units is needed, memory is bounded, and the sums of two workers,
of two replicas and of the time before a restart add up to the sums of all.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.entities import Cell
from tracking.errors import InvalidParameter

Floats = NDArray[np.float64]

CLUSTERS = 1_000
"""Places that the 10,000 buckets of the assignment are folded to.

Ten buckets to a place, a tenth of the memory. An arm of 10 % and more still has all thousand places, and an arm of less
has one for each of its buckets, as the buckets that an arm is given lie side by side. The error of a variance taken
over a thousand places is 4.5 %, which is no reason to keep ten times as many.
"""


class UnreadableSums(InvalidParameter):
    def __init__(self, reason: str) -> None:
        super().__init__(f"These sums can't be read: {reason}.")


class Column(StrEnum):
    """One sum. What is summed is said for each; *squares* are kept where a value isn't its own square."""

    REQUESTS = "requests"
    UNITLESS = "unitless"
    """Requests without a unit, each of which was assigned by itself."""
    FAILURES = "failures"
    SLOW = "slow"
    """Requests that took longer than a limit that was set before the period began."""

    LABELS = "labels"
    CORRECT = "correct"
    LOG_LOSS = "log_loss"
    """-ln of the probability that was given to the class it was, clipped."""
    LOG_LOSS_SQUARES = "log_loss_squares"
    BRIER = "brier"
    """Squared distances of the probabilities from 0 or 1, over all classes: 0 to 2."""
    BRIER_SQUARES = "brier_squares"
    TRUE_POSITIVES = "true_positives"
    FALSE_POSITIVES = "false_positives"
    FALSE_NEGATIVES = "false_negatives"

    ERRORS = "errors"
    """Absolute errors of a number."""
    SQUARED_ERRORS = "squared_errors"
    FOURTH_POWERS = "fourth_powers"

    REWARDS = "rewards"
    REWARD_SQUARES = "reward_squares"


Layout = tuple[Column, ...]
"""The sums that are kept of one kind of thing, in the order of their rows."""

SERVING: Layout = (Column.REQUESTS, Column.UNITLESS, Column.FAILURES, Column.SLOW)
CLASSES: Layout = (
    Column.LABELS,
    Column.CORRECT,
    Column.LOG_LOSS,
    Column.LOG_LOSS_SQUARES,
    Column.BRIER,
    Column.BRIER_SQUARES,
    Column.TRUE_POSITIVES,
    Column.FALSE_POSITIVES,
    Column.FALSE_NEGATIVES,
)
NUMBERS: Layout = (Column.LABELS, Column.ERRORS, Column.SQUARED_ERRORS, Column.FOURTH_POWERS)
REWARDS: Layout = (Column.LABELS, Column.REWARDS, Column.REWARD_SQUARES)


def cluster_of(bucket: int) -> int:
    """The cluster, 0 to 999, of a unit whose bucket is *bucket* (`gateway.scoring.routing.bucket_of`)."""
    return bucket % CLUSTERS


def buckets_by_cluster(owners: Iterable[str], arm: str) -> Floats:
    """How many of its buckets *arm* owns in each cluster, shape (1000,); *owners* names the arm of each bucket."""
    owned = np.fromiter((owner == arm for owner in owners), dtype=np.bool_)
    return np.bincount(np.flatnonzero(owned) % CLUSTERS, minlength=CLUSTERS).astype(np.float64)


class ClusterSums:
    """One table of sums: a row for each column of *layout*, a place for each cluster. 8 bytes each.

    Merging is addition: commutative to the bit, associative to the bit for counts (below 2^53) and up to rounding for
    sums of losses.
    """

    __slots__ = ("layout", "values")

    def __init__(self, layout: Layout, values: Floats | None = None) -> None:
        self.layout = layout
        self.values = np.zeros((len(layout), CLUSTERS)) if values is None else values

    def add(self, cluster: int, amounts: Mapping[Column, float]) -> None:
        """Count one thing that happened to a unit of *cluster*."""
        for column, amount in amounts.items():
            self.values[self.layout.index(column), cluster] += amount

    def add_many(self, clusters: NDArray[np.int64], amounts: Mapping[Column, Floats]) -> None:
        """Count many: *clusters* and each of the amounts have shape (things,)."""
        for column, each in amounts.items():
            self.values[self.layout.index(column)] += np.bincount(clusters, weights=each, minlength=CLUSTERS)

    def merge(self, other: Self) -> None:
        """Count what *other* has counted as well."""
        self.values += other.row_by_row(self.layout)

    def row_by_row(self, layout: Layout) -> Floats:
        """The rows of *layout*, shape (columns, clusters); zeros for those that aren't kept here."""
        if layout == self.layout:
            return self.values
        nothing = np.zeros(CLUSTERS)
        return np.stack([self.row(column) if column in self.layout else nothing for column in layout])

    def row(self, column: Column) -> Floats:
        """One sum by cluster, shape (clusters,)."""
        row: Floats = self.values[self.layout.index(column)]
        return row

    def to_wire(self) -> "WireSums":
        """Only the clusters that anything happened in, so that a small arm is small."""
        touched = np.flatnonzero(self.values.any(axis=0))
        return WireSums(
            columns=[column.value for column in self.layout],
            clusters=touched.astype("<u2").tobytes(),
            values=self.values[:, touched].astype("<f8").tobytes(),
        )

    @classmethod
    def from_wire(cls, wire: "WireSums", layout: Layout) -> Self:
        """The sums of *layout*. Columns that only one release knows are dropped, or start at zero.

        Raises:
            UnreadableSums: if the parts don't fit together.
        """
        touched = _numbers(wire.clusters, "<u2").astype(np.int64)
        flat = _numbers(wire.values, "<f8")
        if flat.size != touched.size * len(wire.columns):
            raise UnreadableSums(f"{flat.size} values for {len(wire.columns)} columns of {touched.size} clusters")
        if (touched >= CLUSTERS).any() or np.unique(touched).size != touched.size or not np.isfinite(flat).all():
            raise UnreadableSums("a cluster that there isn't, one twice, or a value that is no number")
        read = cls(layout)
        for name, row in zip(wire.columns, flat.reshape(len(wire.columns), touched.size), strict=True):
            if name in layout:
                read.values[layout.index(Column(name)), touched] = row
        return read


def _numbers(content: bytes, kind: str) -> NDArray[np.generic]:
    if len(content) % np.dtype(kind).itemsize:
        raise UnreadableSums("it is cut off")
    return np.frombuffer(content, dtype=kind)


Answerer = tuple[str, int]
"""An arm and the version that answered for it."""


class WireSums(msgspec.Struct, frozen=True, array_like=True):
    """`ClusterSums` as bytes; numbers are little-endian."""

    columns: list[str]
    clusters: bytes
    values: bytes


class Tally:
    """The sums of all cells of an endpoint, of one layout."""

    def __init__(self, layout: Layout, cells: dict[Cell, ClusterSums] | None = None) -> None:
        self.layout = layout
        self.cells = cells if cells is not None else {}

    def of(self, cell: Cell) -> ClusterSums:
        """The sums to count in; made when they are first asked for."""
        return self.cells.get(cell) or self.cells.setdefault(cell, ClusterSums(self.layout))

    def merge(self, other: Self) -> None:
        """Count what *other* has counted as well: another worker's, another replica's, or those saved before a stop."""
        for cell, sums in other.cells.items():
            self.of(cell).merge(sums)

    def periods_of(self, champion: Answerer, challenger: Answerer) -> list[tuple[Floats, Floats]]:
        """What both were asked in each period in which either was, oldest first; zeros where one wasn't.

        One period of zeros if there is none, so that there is something to compare.
        """
        periods = sorted({cell.period for cell in self.cells if (cell.arm, cell.version) in {champion, challenger}})
        nothing = ClusterSums(self.layout)

        def asked(period: int, who: Answerer) -> Floats:
            return self.cells.get(Cell(period, *who), nothing).values

        return [(asked(period, champion), asked(period, challenger)) for period in periods or [0]]
