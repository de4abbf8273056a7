"""Sums of the traffic, as they are kept between the processes that count and whoever compares.

What a sum is made of is for others to know: here it is bytes, and whoever adds to them brings the way to merge.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, cast

import msgspec
from sqlalchemy import Table, bindparam, delete, select, update
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
    connection = session.connection()
    if not counted or connection.scalar(_ENDPOINT, {"endpoint_id": endpoint_id}) is None:
        return
    place = {"endpoint_id": endpoint_id, "kind": kind.value}
    insert_new(session, TallyRow, [{**place, **msgspec.structs.asdict(cell), "content": b""} for cell in counted])
    periods = sorted({cell.period for cell in counted})
    rows = connection.execute(_LOCKED, {**place, "periods": periods})
    before = {Cell(row.period, row.arm, row.version): row.content for row in rows}
    connection.execute(_CHANGED, [_changed(place, cell, before[cell], new, merge) for cell, new in counted.items()])
    if not all(before[cell] for cell in counted):
        connection.execute(_DROPPED, {"endpoint_id": endpoint_id, "period": periods[-1] - PERIODS_MAX})


def _changed(place: Mapping[str, str], cell: Cell, before: bytes, new: bytes, merge: Merge) -> dict[str, Any]:
    key = {**place, **msgspec.structs.asdict(cell)}
    return {**{f"of_{name}": value for name, value in key.items()}, "content": merge(before, new) if before else new}


# Built once, as each worker runs them every second.
_TABLE = cast("Table", TallyRow.__table__)
# Held, lightly, as it could be deleted before the row is added, or with it; one that goes must cost the others nothing.
_ENDPOINT = (
    select(EndpointRow.id).where(EndpointRow.id == bindparam("endpoint_id")).with_for_update(read=True, key_share=True)
)
_LOCKED = (
    select(_TABLE)
    .where(_TABLE.c.endpoint_id == bindparam("endpoint_id"), _TABLE.c.kind == bindparam("kind"))
    .where(_TABLE.c.period.in_(bindparam("periods", expanding=True)))
    .order_by(*_TABLE.primary_key)
    .with_for_update()
)
_CHANGED = update(_TABLE).where(*(column == bindparam(f"of_{column.name}") for column in _TABLE.primary_key))
_DROPPED = delete(_TABLE).where(
    _TABLE.c.endpoint_id == bindparam("endpoint_id"), _TABLE.c.period <= bindparam("period")
)


def read(session: Session, endpoint_id: str) -> dict[Kind, dict[Cell, bytes]]:
    """All that was counted for an endpoint; of kinds that this release knows."""
    found: dict[Kind, dict[Cell, bytes]] = {}
    known = TallyRow.kind.in_([kind.value for kind in Kind])
    for row in session.scalars(select(TallyRow).where(TallyRow.endpoint_id == endpoint_id, known)):
        cell = Cell(period=row.period, arm=row.arm, version=row.version)
        found.setdefault(Kind(row.kind), {})[cell] = row.content
    return found
