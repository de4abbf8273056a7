"""Sums of the traffic, as they are kept between the processes that count and whoever compares.

What a sum is made of is for others to know: here it is bytes, and whoever adds to them brings the way to merge.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.entities import Cell
from registry.schema import EndpointRow, TallyRow
from tracking.upserts import insert_new

PERIODS_MAX = 200
"""Of one endpoint, the newest; what is counted for older ones is dropped with them."""


class Kind(StrEnum):
    """What is summed; each is of one form, which whoever counts it knows."""

    SERVING = "serving"
    LATENCY = "latency"
    PREDICTIONS = "predictions"
    CLASSES = "classes"
    NUMBERS = "numbers"
    REWARDS = "rewards"
    CALIBRATION = "calibration"
    SHADOW = "shadow"


Merge = Callable[[bytes, bytes], bytes]


def add(session: Session, endpoint_id: str, kind: Kind, counted: Mapping[Cell, bytes], merge: Merge) -> None:
    """Have *counted* count as well, by *merge* where there is something already. Sums of no endpoint are dropped.

    Cells are taken in their order, so that two who add never wait for each other in a ring.
    """
    if session.get(EndpointRow, endpoint_id) is None:
        return
    for cell in sorted(counted):
        place = {"endpoint_id": endpoint_id, "kind": kind.value, **msgspec.structs.asdict(cell)}
        insert_new(session, TallyRow, [{**place, "content": b""}])
        row = session.get_one(TallyRow, tuple(place.values()), with_for_update=True, populate_existing=True)
        row.content = merge(row.content, counted[cell]) if row.content else counted[cell]
    newest = max((cell.period for cell in counted), default=0)
    doomed = (TallyRow.endpoint_id == endpoint_id) & (TallyRow.period <= newest - PERIODS_MAX)
    session.execute(delete(TallyRow).where(doomed))


def read(session: Session, endpoint_id: str) -> dict[Kind, dict[Cell, bytes]]:
    """All that was counted for an endpoint; of kinds that this release knows."""
    found: dict[Kind, dict[Cell, bytes]] = {}
    known = TallyRow.kind.in_([kind.value for kind in Kind])
    for row in session.scalars(select(TallyRow).where(TallyRow.endpoint_id == endpoint_id, known)):
        cell = Cell(period=row.period, arm=row.arm, version=row.version)
        found.setdefault(Kind(row.kind), {})[cell] = row.content
    return found
