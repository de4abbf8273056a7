"""Sums of the traffic in the database: for each kind what it is in memory, in bytes, and merged.

Bytes are MessagePack with the number of their format in front, so that a release can say that it doesn't know them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import numpy as np
from sqlalchemy.orm import Session

from gateway.comparison.calibration import BINS, CalibrationSums
from gateway.comparison.distribution import Distribution
from gateway.comparison.latency_counts import Counts, no_requests
from gateway.comparison.sums import (
    CLASSES,
    NUMBERS,
    REWARDS,
    SERVING,
    ClusterSums,
    Layout,
    Tally,
    UnreadableSums,
    WireSums,
)
from registry import tallies
from registry.entities import Cell
from registry.tallies import Kind

V = TypeVar("V")
W = TypeVar("W")

_NUMBERED = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


class _Form(ABC, Generic[V, W]):
    """One kind of sums: *V* in memory, *W* on the wire."""

    format: ClassVar[int] = 1

    def __init__(self, wire: type[W]) -> None:
        self._decoder = msgspec.msgpack.Decoder(wire)

    @abstractmethod
    def to_wire(self, value: V) -> W: ...

    @abstractmethod
    def from_wire(self, wire: W) -> V: ...

    @abstractmethod
    def merged(self, old: V, new: V) -> V: ...

    def encode(self, value: V) -> bytes:
        return msgspec.msgpack.encode((self.format, self.to_wire(value)))

    def decode(self, content: bytes) -> V:
        try:
            version, wire = _NUMBERED.decode(content)
            if version != self.format:
                raise UnreadableSums(f"they are of format {version}, and {self.format} is known")
            return self.from_wire(self._decoder.decode(wire))
        except msgspec.MsgspecError as error:
            raise UnreadableSums(str(error)) from error

    def merge(self, old: bytes, new: bytes) -> bytes:
        return self.encode(self.merged(self.decode(old), self.decode(new)))


class _ClusterForm(_Form[ClusterSums, WireSums]):
    def __init__(self, layout: Layout) -> None:
        super().__init__(WireSums)
        self.layout = layout

    def to_wire(self, value: ClusterSums) -> WireSums:
        return value.to_wire()

    def from_wire(self, wire: WireSums) -> ClusterSums:
        return ClusterSums.from_wire(wire, self.layout)

    def merged(self, old: ClusterSums, new: ClusterSums) -> ClusterSums:
        old.merge(new)
        return old


class _LatencyForm(_Form[Counts, dict[int, int]]):
    """On the wire, the buckets that anything is in."""

    def to_wire(self, value: Counts) -> dict[int, int]:
        taken = np.flatnonzero(value)
        return dict(zip(taken.tolist(), value[taken].tolist(), strict=True))

    def from_wire(self, wire: dict[int, int]) -> Counts:
        counts = no_requests()
        if not all(0 <= bucket < counts.size for bucket in wire):
            raise UnreadableSums("a bucket that there isn't")
        counts[list(wire)] = list(wire.values())
        return counts

    def merged(self, old: Counts, new: Counts) -> Counts:
        return old + new


class _CalibrationForm(_Form[CalibrationSums, dict[str, list[float]]]):
    def to_wire(self, value: CalibrationSums) -> dict[str, list[float]]:
        return {name: row.tolist() for name, row in msgspec.structs.asdict(value).items()}

    def from_wire(self, wire: dict[str, list[float]]) -> CalibrationSums:
        rows = {name: np.array(wire.get(name, [0.0] * BINS)) for name in CalibrationSums.__struct_fields__}
        if any(row.shape != (BINS,) for row in rows.values()):
            raise UnreadableSums("bins that there aren't")
        return CalibrationSums(**rows)

    def merged(self, old: CalibrationSums, new: CalibrationSums) -> CalibrationSums:
        return old.merged(new)


class _DistributionForm(_Form[Distribution, Distribution]):
    """By the names of its fields: those that another release has are left out, or empty."""

    def to_wire(self, value: Distribution) -> Distribution:
        return value

    def from_wire(self, wire: Distribution) -> Distribution:
        return wire

    def merged(self, old: Distribution, new: Distribution) -> Distribution:
        old.merge(new)
        return old


LAYOUTS: Mapping[Kind, Layout] = {
    Kind.SERVING: SERVING,
    Kind.CLASSES: CLASSES,
    Kind.NUMBERS: NUMBERS,
    Kind.REWARDS: REWARDS,
}
_FORMS: Mapping[Kind, _Form[Any, Any]] = {
    **{kind: _ClusterForm(layout) for kind, layout in LAYOUTS.items()},
    Kind.LATENCY: _LatencyForm(dict[int, int]),
    Kind.CALIBRATION: _CalibrationForm(dict[str, list[float]]),
    Kind.PREDICTIONS: _DistributionForm(Distribution),
}

Value = ClusterSums | Counts | CalibrationSums | Distribution


class KeptSums(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All that was counted for an endpoint, but what shadows were compared by."""

    tallies: Mapping[Layout, Tally]
    latency: Mapping[Cell, Counts]
    calibration: Mapping[Cell, CalibrationSums]
    predictions: Mapping[Cell, Distribution]

    def tally(self, layout: Layout) -> Tally:
        """The sums of *layout*, which is one of `LAYOUTS`; without cells where nothing was counted."""
        return self.tallies[layout]


def add(session: Session, endpoint_id: str, kind: Kind, counted: Mapping[Cell, Value]) -> None:
    """Have *counted* count as well; each value is of the form of *kind*, which isn't SHADOW.

    Whoever adds several kinds in one transaction adds them in the order of `Kind`, so that nobody waits in a ring.

    Raises:
        UnreadableSums: if what is there is damaged, or of a later release.
    """
    form = _FORMS[kind]
    tallies.add(session, endpoint_id, kind, {cell: form.encode(value) for cell, value in counted.items()}, form.merge)


def read(session: Session, endpoint_id: str) -> KeptSums:
    """All that was counted for an endpoint.

    Raises:
        UnreadableSums: as `add`.
    """
    kept = tallies.read(session, endpoint_id)
    values = {
        kind: {cell: form.decode(content) for cell, content in kept.get(kind, {}).items()}
        for kind, form in _FORMS.items()
    }
    return KeptSums(
        tallies={layout: Tally(layout, values[kind]) for kind, layout in LAYOUTS.items()},
        latency=values[Kind.LATENCY],
        calibration=values[Kind.CALIBRATION],
        predictions=values[Kind.PREDICTIONS],
    )
