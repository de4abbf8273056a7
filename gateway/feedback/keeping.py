"""Counts feedback that hadn't been counted before, in one transaction with the memory that it was."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from gateway.comparison import kept_sums
from gateway.comparison.calibration import CalibrationSums, calibration_sums
from gateway.comparison.kept_sums import LAYOUTS
from gateway.comparison.sums import ClusterSums
from gateway.feedback.judging import EndpointGone, Joined, Judged, Outcome, Refused, TooManyWait, Waiting
from registry import labels, waiting_labels
from registry.entities import Cell
from registry.labels import Given
from registry.tallies import Kind
from tracking.errors import ServingError


class Kept(NamedTuple):
    """What became of one item."""

    outcome: Outcome
    endpoint_id: str | None
    is_compared: bool = False
    """Whether it counts for an arm."""
    error: ServingError | None = None


def keep(session: Session, judged: Sequence[Judged]) -> list[Kept]:
    """Count what is new of *judged*, and say what became of each."""
    held = labels.hold(session, {one.endpoint_id for one in judged if one.endpoint_id is not None})
    judged = _with_room(session, judged)
    given = [one.given for one in judged if not isinstance(one, Refused) and one.endpoint_id in held]
    new = labels.add_new(session, list({one[:2]: one for one in given}.values()))
    kept = []
    for one in judged:
        if not isinstance(one, Refused) and one.given[:2] in new:
            # The first of those that are the same; the others are repetitions of it.
            new.remove(one.given[:2])
            kept.append(_new(one))
        else:
            kept.append(_uncounted(one, held))
    both = list(zip(judged, kept, strict=True))
    waiting = [one.label for one, what in both if isinstance(one, Waiting) and what.outcome is Outcome.WAITING]
    waiting_labels.add(session, waiting)
    _add_sums(session, [one for one, what in both if isinstance(one, Joined) and what.outcome is Outcome.ACCEPTED])
    for endpoint_id in sorted(held):
        counts = Counter(one.outcome.value for one in kept if one.endpoint_id == endpoint_id)
        labels.count(session, endpoint_id, counts)
    return kept


def settle(
    session: Session, endpoint_id: str, joined: Sequence[Joined], unjoined: Sequence[tuple[Given, Outcome]]
) -> None:
    """Count what labels that waited have come to; what none can be joined to may be given once more."""
    labels.forget(session, [given for given, _ in unjoined])
    _add_sums(session, joined)
    counts = Counter({Outcome.ACCEPTED.value: len(joined)})
    counts.update(outcome.value for _, outcome in unjoined)
    labels.count(session, endpoint_id, counts)


def refused(judged: Iterable[Judged]) -> list[Kept]:
    """What became of items of which none can be counted, nor is any of an endpoint that is known."""
    return [_uncounted(one, set()) for one in judged]


def _with_room(session: Session, judged: Sequence[Judged]) -> Sequence[Judged]:
    """*judged*, those that there is no more room for refused."""
    if not any(isinstance(one, Waiting) for one in judged):
        return judged
    room = waiting_labels.room(session)
    allowed: list[Judged] = []
    for one in judged:
        if isinstance(one, Waiting) and (room := room - 1) < 0:
            allowed.append(Refused(TooManyWait(), one.endpoint_id))
        else:
            allowed.append(one)
    return allowed


def _new(one: Joined | Waiting) -> Kept:
    if isinstance(one, Waiting):
        return Kept(Outcome.WAITING, one.endpoint_id)
    return Kept(Outcome.ACCEPTED, one.endpoint_id, is_compared=one.cell is not None)


def _uncounted(one: Judged, held: set[str]) -> Kept:
    if isinstance(one, Refused):
        return Kept(one.outcome, one.endpoint_id, error=one.error)
    if one.endpoint_id not in held:
        return Kept(Outcome.UNMATCHED, None, error=EndpointGone())
    return Kept(Outcome.REPEATED, one.endpoint_id)


# --- sums


def _add_sums(session: Session, accepted: Iterable[Joined]) -> None:
    """Add to the sums of each endpoint, kind and cell, in the one order in which all take them."""
    by_place: dict[str, dict[Kind, dict[Cell, list[Joined]]]] = {}
    for one in accepted:
        if one.cell is not None:
            kinds = by_place.setdefault(one.endpoint_id, {})
            kinds.setdefault(one.said.kind, {}).setdefault(one.cell, []).append(one)
            if one.said.calibrated is not None:
                kinds.setdefault(Kind.CALIBRATION, {}).setdefault(one.cell, []).append(one)
    for endpoint_id, kinds in sorted(by_place.items()):
        for kind in Kind:
            if kind in kinds:
                kept_sums.add(session, endpoint_id, kind, _values(kind, kinds[kind]))


def _values(kind: Kind, by_cell: Mapping[Cell, Sequence[Joined]]) -> dict[Cell, kept_sums.Value]:
    if kind is Kind.CALIBRATION:
        return {cell: _calibration(some) for cell, some in by_cell.items()}
    return {cell: _sums(kind, some) for cell, some in by_cell.items()}


def _sums(kind: Kind, some: Sequence[Joined]) -> ClusterSums:
    layout = LAYOUTS[kind]
    sums = ClusterSums(layout)
    amounts = np.array([one.said.amounts for one in some]).T
    sums.add_many(np.array([one.cluster for one in some]), dict(zip(layout, amounts, strict=True)))
    return sums


def _calibration(some: Iterable[Joined]) -> CalibrationSums:
    calibrated = [one.said.calibrated for one in some if one.said.calibrated is not None]
    probabilities, came_true = np.array(calibrated, dtype=np.float64).T
    return calibration_sums(probabilities, came_true)
