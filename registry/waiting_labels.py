"""Labels that wait for what was predicted: its id says nothing of that, and the prediction log is to have it.

What is taken from here is counted in the same transaction, so that of several replicas one counts it.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple, cast

import msgspec
from sqlalchemy import Table, delete, func, select
from sqlalchemy.orm import Session

from registry.entities import Cell
from registry.schema import WaitingLabelRow
from tracking.upserts import insert_new

WAITING_MAX = 100_000
"""Of all endpoints together. Some 40 MB, and a few seconds' work once there is what they wait for."""
LABEL_MAX = 1_000
"""Characters of one, as JSON."""

_TABLE = cast("Table", WaitingLabelRow.__table__)


class Place(NamedTuple):
    """Where what some labels wait for is kept."""

    endpoint_id: str
    day: str
    """Of the predictions, by UTC."""


class WaitingLabel(msgspec.Struct, frozen=True, kw_only=True):
    nonce: bytes
    """Of the prediction's id and the row, as `registry.labels.Given` has it."""
    place: Place
    prediction_id: str
    row: int | None
    """None if nothing was said of rows, which will do where there is one."""
    at_ms: int
    """When it was predicted."""
    label: str
    """As JSON, `LABEL_MAX` characters at most."""
    cell: Cell | None
    """Whose sums it goes to; None if no comparison counts it."""
    cluster: int
    since_ms: int


def room(session: Session) -> int:
    """How many more may wait. Of those who ask at once none sees the others': it may come to be a few more."""
    some = select(_TABLE.c.nonce).limit(WAITING_MAX).subquery()
    return WAITING_MAX - session.scalars(select(func.count()).select_from(some)).one()


def add(session: Session, some: Iterable[WaitingLabel]) -> None:
    """Have *some* wait; their endpoints are held."""
    insert_new(session, WaitingLabelRow, [_to_values(one) for one in some])


def places(session: Session) -> list[Place]:
    """Where all that is waited for is kept."""
    found = select(_TABLE.c.endpoint_id, _TABLE.c.day).distinct().order_by(_TABLE.c.endpoint_id, _TABLE.c.day)
    return [Place(endpoint_id, day) for endpoint_id, day in session.execute(found)]


def list_of(session: Session, place: Place) -> list[WaitingLabel]:
    """Those that wait for what is kept at *place*."""
    is_there = (_TABLE.c.endpoint_id == place.endpoint_id, _TABLE.c.day == place.day)
    return [_to_label(row) for row in session.scalars(select(WaitingLabelRow).where(*is_there))]


def take(session: Session, nonces: Collection[bytes]) -> set[bytes]:
    """Remove those of *nonces* that wait still and that nobody else is taking; which these are."""
    free = select(_TABLE.c.nonce).where(_TABLE.c.nonce.in_(nonces)).with_for_update(skip_locked=True)
    taken = delete(_TABLE).where(_TABLE.c.nonce.in_(free)).returning(_TABLE.c.nonce)
    return set(map(bytes, session.execute(taken).scalars()))


def _to_values(one: WaitingLabel) -> dict[str, object]:
    cell = one.cell
    return {
        "nonce": one.nonce,
        "endpoint_id": one.place.endpoint_id,
        "day": one.place.day,
        "prediction_id": one.prediction_id,
        "row": one.row,
        "at_ms": one.at_ms,
        "label": one.label,
        "period": None if cell is None else cell.period,
        "arm": None if cell is None else cell.arm,
        "version": None if cell is None else cell.version,
        "cluster": one.cluster,
        "since_ms": one.since_ms,
    }


def _to_label(row: WaitingLabelRow) -> WaitingLabel:
    cell = None
    if row.period is not None and row.arm is not None and row.version is not None:
        cell = Cell(row.period, row.arm, row.version)
    return WaitingLabel(
        nonce=bytes(row.nonce),
        place=Place(row.endpoint_id, row.day),
        prediction_id=row.prediction_id,
        row=row.row,
        at_ms=row.at_ms,
        label=row.label,
        cell=cell,
        cluster=row.cluster,
        since_ms=row.since_ms,
    )
