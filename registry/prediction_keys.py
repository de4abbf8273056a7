"""Keys that ids of predictions are signed with: one signs, and those before it prove what they have signed."""

import secrets

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import serving
from registry.entities import PredictionKey
from registry.schema import PredictionKeyRow

_ID_BYTES = 4
_SECRET_BYTES = 32


def list_keys(session: Session) -> list[PredictionKey]:
    """All keys, the newest first: the one that signs, and those that still count."""
    rows = session.scalars(select(PredictionKeyRow).order_by(PredictionKeyRow.made_ms.desc(), PredictionKeyRow.id))
    return [_key(row) for row in rows]


def find_signing_key(session: Session) -> PredictionKey | None:
    """The key that signs; None before there is one."""
    row = session.scalar(select(PredictionKeyRow).where(PredictionKeyRow.retired_ms.is_(None)))
    return None if row is None else _key(row)


def ensure_key(session: Session, *, now_ms: int) -> PredictionKey:
    """The key that signs, made now if there is none. Of replicas that start at once, one makes it."""
    serving.lock_generation(session)
    return find_signing_key(session) or _make(session, now_ms)


def rotate(session: Session, *, now_ms: int, forget_old: bool = False) -> PredictionKey:
    """Have a new key sign. The old ones go on proving what they have signed, unless they are to be forgotten."""
    serving.lock_generation(session)
    if forget_old:
        session.execute(delete(PredictionKeyRow))
    else:
        for row in session.scalars(select(PredictionKeyRow).where(PredictionKeyRow.retired_ms.is_(None))):
            row.retired_ms = now_ms
    session.flush()
    return _make(session, now_ms)


def remove_retired(session: Session, *, before_ms: int) -> None:
    """Remove the keys that were retired so long ago that nothing counts any more that they have signed."""
    session.execute(delete(PredictionKeyRow).where(PredictionKeyRow.retired_ms < before_ms))


def _make(session: Session, now_ms: int) -> PredictionKey:
    row = PredictionKeyRow(
        id=secrets.token_hex(_ID_BYTES), secret=secrets.token_bytes(_SECRET_BYTES), made_ms=now_ms, retired_ms=None
    )
    session.add(row)
    session.flush()
    return _key(row)


def _key(row: PredictionKeyRow) -> PredictionKey:
    return PredictionKey(id=row.id, secret=bytes(row.secret), made_ms=row.made_ms, retired_ms=row.retired_ms)
