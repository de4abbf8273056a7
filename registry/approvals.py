"""Approvals: somebody's word that a version may go where a gate asks for it. Each person's counts once."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import history, serving
from registry.entities import Action, Approval
from registry.errors import ModelVersionNotFound
from registry.granted import ensure_may_change
from registry.history import REASON_LENGTH_MAX
from registry.rows import get_version_row
from registry.schema import ApprovalRow
from tracking.names import check_text


def approve(
    session: Session, model: str, version: int, *, author: str, now_ms: int, reason: str | None = None
) -> Approval:
    """Have *author* vouch for a version; a second time only renews it.

    Raises:
        ModelVersionNotFound: if there is no such version that the caller may see.
        NotGranted: if they may not approve versions of this model.
    """
    ensure_may_change(session, model, ModelVersionNotFound(model, version))
    get_version_row(session, model, version, lock=True)
    check_text(reason or "", "reason", REASON_LENGTH_MAX)
    row = ApprovalRow(name=model, version=version, author=author, reason=reason, created_ms=now_ms)
    session.merge(row)
    serving.raise_generation(session)  # The version may be asked for by name now.
    history.record(session, Action.APPROVED, model, author=author, now_ms=now_ms, version=version, reason=reason)
    return Approval(author=author, reason=reason, created_ms=now_ms)


def withdraw(session: Session, model: str, version: int, *, author: str, now_ms: int) -> None:
    """Take *author*'s approval back; what it let through stays. Nothing happens if there was none."""
    ensure_may_change(session, model, ModelVersionNotFound(model, version))
    row = ApprovalRow
    own = (row.name == model) & (row.version == version) & (row.author == author)
    if session.execute(delete(row).where(own)).rowcount:  # type: ignore[attr-defined]  # a DELETE's result counts its rows
        serving.raise_generation(session)
        history.record(session, Action.APPROVAL_WITHDRAWN, model, author=author, now_ms=now_ms, version=version)


def list_approvals(session: Session, model: str, version: int) -> list[Approval]:
    """Who has approved a version, the first to do so first."""
    row = ApprovalRow
    of_version = select(row).where(row.name == model, row.version == version).order_by(row.created_ms, row.author)
    return [
        Approval(author=each.author, reason=each.reason, created_ms=each.created_ms)
        for each in session.scalars(of_version)
    ]
