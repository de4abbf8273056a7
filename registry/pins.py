"""Pins: somebody's wish to keep a version in memory, whatever the aliases say."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import gates, history, serving
from registry.entities import Action, Pin
from registry.errors import ModelVersionNotFound
from registry.granted import ensure_may_change, in_sight, may_see
from registry.names import check_model_name
from registry.rows import get_model_row, get_version_row
from registry.schema import PinRow


def list_pins(session: Session) -> list[Pin]:
    """The pins of models that the caller may see."""
    pins = select(PinRow).where(*in_sight(session, PinRow.model))
    rows = session.scalars(pins.order_by(PinRow.model, PinRow.version))
    return [Pin(model=row.model, version=row.version, author=row.author, created_ms=row.created_ms) for row in rows]


def pin(session: Session, model: str, version: int, *, author: str, now_ms: int) -> None:
    """Keep *version* of *model* in memory until it is unpinned. Pinning twice is pinning once.

    Raises:
        ModelVersionNotFound: if there is no such version that the caller may see.
        NotGranted: if they may not change its model.
        GatesNotMet: if a gate bounds what may come to it, and isn't met.
    """
    check_model_name(model)
    ensure_may_change(session, model, ModelVersionNotFound(model, version))
    serving.lock_generation(session)
    get_version_row(session, model, version)
    if session.get(PinRow, (model, version)) is None:
        gates.ensure_may_be_pinned(session, model, version, now_ms=now_ms)
        session.add(PinRow(model=model, version=version, author=author, created_ms=now_ms))
        history.record(session, Action.PINNED, model, author=author, now_ms=now_ms, version=version)
    serving.raise_generation(session)


def unpin_all(session: Session, model: str, *, author: str, now_ms: int) -> None:
    """Take back all wishes about *model*.

    Raises:
        RegisteredModelNotFound: if there is no such model that the caller may see.
        NotGranted: if they may not change it.
    """
    get_model_row(session, model, lock=True)
    for version in session.scalars(select(PinRow.version).where(PinRow.model == model).order_by(PinRow.version)).all():
        unpin(session, model, version, author=author, now_ms=now_ms)


def unpin(session: Session, model: str, version: int, *, author: str, now_ms: int) -> None:
    """Take back the wish; nothing happens if there was none, or none that the caller may see.

    Raises:
        NotGranted: if they may not change the model.
    """
    check_model_name(model)
    if not may_see(session, model):
        return
    ensure_may_change(session, model, ModelVersionNotFound(model, version))
    serving.lock_generation(session)
    taken = session.execute(delete(PinRow).where(PinRow.model == model, PinRow.version == version))
    if taken.rowcount:  # type: ignore[attr-defined]  # a DELETE's result counts its rows
        history.record(session, Action.UNPINNED, model, author=author, now_ms=now_ms, version=version)
    serving.raise_generation(session)
