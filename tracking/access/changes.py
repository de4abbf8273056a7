"""The number that every change of access raises: all that a replica polls."""

from typing import cast

from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from tracking.access.schema import AccessChangesRow

_ONLY_ROW = 1
_CHANGES = cast("Table", AccessChangesRow.__table__)


def change_number(session: Session) -> int:
    return session.scalar(select(AccessChangesRow.value).where(AccessChangesRow.id == _ONLY_ROW)) or 0


def raise_change_number(session: Session) -> None:
    """Have all replicas read access anew. Also the lock that puts changes of access one after the other."""
    session.flush()
    # The migration made the row. The UPDATE reads for itself, so that no two writers raise it to the same value.
    session.execute(update(_CHANGES).where(_CHANGES.c.id == _ONLY_ROW).values(value=_CHANGES.c.value + 1))
