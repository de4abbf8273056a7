"""Aliases: which version a name like ``champion`` should mean. Desired state; what follows is `registry.endpoints`'s.

Every change is made under the lock of the model's row, so concurrent writers take turns: the last one wins and none
of them meets an error.
"""

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from registry import endpoints, gates, history, models, serving, shadows, verdicts
from registry.entities import Action, Meaning, ModelVersion
from registry.errors import AliasMoved, AliasNotFound, ModelVersionNotFound
from registry.gates import Override
from registry.history import REASON_LENGTH_MAX
from registry.names import LATEST, check_alias, check_alias_may_be_set
from registry.rows import ensure_model_seen, ensure_version, get_model_row, lock_model, to_version
from registry.schema import AliasRow, ModelVersionRow
from tracking.names import check_text
from tracking.upserts import upsert


def set_alias(
    session: Session,
    name: str,
    alias: str,
    version: int,
    *,
    author: str,
    now_ms: int,
    reason: str | None = None,
    expected: Meaning | None = None,
    override: Override | None = None,
    is_gated: bool = True,
    rollout: str | None = None,
) -> None:
    """Let *alias* mean *version* from now on; *reason* is for the history, *rollout* the one that does it.

    With *expected* nothing happens unless the alias means that: of two who promote at once, one finds out. With
    *is_gated* false no gate is asked, since it goes back to what was served.

    Raises:
        GatesNotMet: if a gate keeps this version out, and there is no *override*.
        RegisteredModelNotFound, ModelVersionNotFound: if there is nothing to point at.
        AliasMoved: if it doesn't mean what was *expected*.
        Conflict: if something that runs on the model's endpoint rules it out.
    """
    check_alias_may_be_set(alias)
    check_text(reason or "", "reason", REASON_LENGTH_MAX)
    lock_model(session, name)
    ensure_version(session, name, version)
    before = session.connection().execute(_POINTED_AT, {"name": name, "alias": alias}).scalar()
    _ensure_means(session, name, alias, before, expected)
    if before != version and is_gated:
        # First, or what the gates are asked of may change before this is written: a split takes no model's lock.
        serving.lock_generation(session)
        gates.ensure_alias_may_mean(session, name, alias, version, now_ms=now_ms, override=override)
    upsert(session, AliasRow, [{"name": name, "alias": alias, "version": version}])
    if before != version:
        history.record(
            session,
            Action.ALIAS_SET,
            name,
            author=author,
            now_ms=now_ms,
            alias=alias,
            version=version,
            reason=reason,
            details={
                **({} if before is None else {"before": before}),
                **verdicts.said_of(session, name, alias, before=before, version=version),
            },
        )
    # A prompt has aliases too, but nothing that could answer a request.
    if not models.is_prompt(session, name):
        endpoints.alias_was_set(session, name, alias, version, author=author, now_ms=now_ms, rollout=rollout)


def delete_alias(
    session: Session,
    name: str,
    alias: str,
    *,
    author: str,
    now_ms: int,
    expected: Meaning | None = None,
    rollout: str | None = None,
) -> None:
    """Take *alias* away, as *rollout* does if it is one; an alias that isn't there is no error, as with MLflow.

    Raises:
        RegisteredModelNotFound: if there is no model *name*.
        AliasMoved: if it doesn't mean what was *expected*.
        Conflict: if something that runs on the model's endpoint rules it out.
    """
    check_alias(alias)
    get_model_row(session, name, lock=True)
    row = session.get(AliasRow, (name, alias), populate_existing=True)
    _ensure_means(session, name, alias, None if row is None else row.version, expected)
    if row is not None:
        _delete(session, row, author=author, now_ms=now_ms, rollout=rollout)


def delete_aliases_of(session: Session, name: str, version: int, *, author: str, now_ms: int) -> None:
    """Take away every alias that means *version*, which is about to be deleted under the model's lock."""
    matching = select(AliasRow).where(AliasRow.name == name, AliasRow.version == version).order_by(AliasRow.alias)
    for row in session.scalars(matching).all():
        _delete(session, row, author=author, now_ms=now_ms)


def get_version_by_alias(session: Session, name: str, alias: str) -> ModelVersion:
    """The version that *alias* means; ``latest`` always means the one with the highest number.

    Raises:
        RegisteredModelNotFound: if there is no model *name*.
        AliasNotFound: if the model has no such alias.
    """
    check_alias(alias)
    ensure_model_seen(session, name)
    if alias.lower() == LATEST:
        get_model_row(session, name)
        return _highest_version(session, name)
    row = session.connection().execute(_MEANT, {"name": name, "alias": alias}).first()
    if row is None:
        # Which of the two there isn't.
        get_model_row(session, name)
        raise AliasNotFound(alias)
    return to_version(session, row)


_POINTED_AT = select(AliasRow.version).where(AliasRow.name == bindparam("name"), AliasRow.alias == bindparam("alias"))

# One statement and built once, because it is what callers that resolve a model for every job ask.
_MEANT = (
    select(ModelVersionRow.__table__)
    .join(AliasRow, (AliasRow.name == ModelVersionRow.name) & (AliasRow.version == ModelVersionRow.version))
    .where(AliasRow.name == bindparam("name"), AliasRow.alias == bindparam("alias"))
)


def _ensure_means(session: Session, name: str, alias: str, means: int | None, expected: Meaning | None) -> None:
    if expected is not None and means != expected.version:
        mover = history.last_mover(session, name, alias)
        raise AliasMoved(name, alias, means=means, expected=expected.version, mover=mover)


def _highest_version(session: Session, name: str) -> ModelVersion:
    of_model = select(ModelVersionRow).where(ModelVersionRow.name == name)
    row = session.scalars(of_model.order_by(ModelVersionRow.version.desc()).limit(1)).first()
    if row is None:
        raise ModelVersionNotFound(name, LATEST)
    return to_version(session, row)


def _delete(session: Session, row: AliasRow, *, author: str, now_ms: int, rollout: str | None = None) -> None:
    name, alias, version = row.name, row.alias, row.version
    session.delete(row)
    session.flush()
    history.record(
        session, Action.ALIAS_DELETED, name, author=author, now_ms=now_ms, alias=alias, details={"before": version}
    )
    if not models.is_prompt(session, name):
        endpoints.alias_was_deleted(session, name, alias, author=author, now_ms=now_ms, rollout=rollout)
        shadows.alias_was_deleted(session, name, alias, author=author, now_ms=now_ms)
