"""Model versions: numbered, immutable, made from a source that is followed once. Prompts' versions have no files."""

from collections.abc import Collection, Mapping

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from registry import aliases, endpoints, history, manifests, models, pins
from registry.entities import Action, ModelVersion, VersionKey
from registry.errors import NotAPromptSource
from registry.names import (
    ACTIVE_STAGES,
    canonical_stage,
    check_description,
    check_tag,
    check_tag_key,
)
from registry.rows import (
    draw_version,
    get_model_row,
    get_version_row,
    insert_version,
    to_new_version,
    to_version,
)
from registry.schema import ModelVersionRow, ModelVersionTagRow
from registry.sources import PROMPT_SOURCES, Claim, Origin, SourcePolicy, trace
from tracking import logged_models
from tracking.access.caller import caller_of
from tracking.errors import InvalidParameter
from tracking.manifest import Manifest
from tracking.names import check_text
from tracking.upserts import insert_new

_RUN_ID_LENGTH_MAX = 256
_MODEL_ID_LENGTH_MAX = 64
_RUN_LINK_LENGTH_MAX = 4_000


def create_version(
    session: Session,
    name: str,
    claim: Claim,
    *,
    policy: SourcePolicy,
    now_ms: int,
    user_id: str | None = None,
    run_link: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> ModelVersion:
    """Register what *claim* says as the next version of model *name*, and freeze its folder if its files are there.

    Numbers start at 1 and are never reused, not even after a delete: a number in a log must keep meaning one version.

    Raises:
        RegisteredModelNotFound: if there is no model *name*.
        SourceNotOwned, SourceNotAllowed: if nothing may be registered from that source.
    """
    tags = tags or {}
    _check_given(claim, run_link, description, tags)
    # The model's lock, which this takes, orders concurrent calls, so that two of them never draw the same number.
    number = draw_version(session, name, now_ms)
    origin = _prompt_origin(claim) if models.says_prompt(tags) else trace(session, claim, policy)
    row = ModelVersionRow(
        name=name,
        version=number,
        source=origin.source,
        artifact_uri=origin.artifact_uri,
        run_id=origin.run_id,
        run_link=run_link,
        model_id=origin.model_id,
        user_id=user_id,
        author=caller_of(session).name,
        description=description,
        stage="None",
        status="READY",
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    # Held before it is written, so that it is written once, digest and all.
    if origin.copied is not None and origin.copied.digest is not None:
        manifests.hold_as(session, row, origin.copied)
    elif origin.proxied:
        manifests.hold_what_was_uploaded(session, row)
    insert_version(session, row)
    insert_new(
        session,
        ModelVersionTagRow,
        [{"name": name, "version": number, "key": key, "value": value} for key, value in tags.items()],
    )
    if origin.model_id is not None:
        logged_models.note_version(session, origin.model_id, name, number)
    return to_new_version(row, tags)


def get_version(session: Session, name: str, version: int) -> ModelVersion:
    """One version.

    Raises:
        ModelVersionNotFound: if there is none.
    """
    return to_version(session, get_version_row(session, name, version))


def find_digests(session: Session, keys: Collection[VersionKey]) -> dict[VersionKey, str | None]:
    """The digest that each of *keys* is held to; a version that isn't there is missing."""
    row = ModelVersionRow
    found: dict[VersionKey, str | None] = {}
    # Version by version of a few models, and not by pairs, which SQLite compares without an index.
    for model in {model for model, _ in keys}:
        wanted = [version for name, version in keys if name == model]
        for version, digest in session.execute(
            select(row.version, row.digest).where(row.name == model, row.version.in_(wanted))
        ):
            found[model, version] = digest
    return found


def describe_version(
    session: Session, name: str, version: int, description: str | None, *, now_ms: int
) -> ModelVersion:
    check_description(description)
    row = get_version_row(session, name, version, lock=True)
    row.description = description
    row.updated_ms = now_ms
    return to_version(session, row)


def transition_stage(
    session: Session, name: str, version: int, stage: str, *, archive_existing: bool, now_ms: int
) -> ModelVersion:
    """Put the version into *stage*, whatever its case; on request the others there become Archived.

    Stages are labels on MLflow's wire. They route nothing.
    """
    stage = canonical_stage(stage)
    if archive_existing and stage not in ACTIVE_STAGES:
        raise InvalidParameter(
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage. Valid stages are {', '.join(ACTIVE_STAGES)}."
        )
    model = get_model_row(session, name, lock=True)
    row = get_version_row(session, name, version)
    if archive_existing:
        others = (ModelVersionRow.name == name) & (ModelVersionRow.version != version)
        session.execute(
            update(ModelVersionRow)
            .where(others, ModelVersionRow.stage == stage)
            .values(stage="Archived", updated_ms=now_ms)
        )
    row.stage = stage
    row.updated_ms = now_ms
    model.updated_ms = now_ms
    return to_version(session, row)


def delete_version(session: Session, name: str, version: int, *, author: str, now_ms: int) -> None:
    """Delete the version with its tags, aliases and pin. Its files stay, free again unless another version has them.

    Raises:
        ModelVersionNotFound: if there is none.
        Conflict: if it answers requests.
    """
    row = get_version_row(session, name, version, lock=True)
    endpoints.ensure_version_deletable(session, name, version)
    aliases.delete_aliases_of(session, name, version, author=author, now_ms=now_ms)
    pins.unpin(session, name, version, author=author, now_ms=now_ms)
    session.delete(row)
    session.flush()
    manifests.release(session, name, version, row.artifact_uri)
    history.record(session, Action.VERSION_DELETED, name, author=author, now_ms=now_ms, version=version)
    get_model_row(session, name).updated_ms = now_ms


def set_tag(session: Session, name: str, version: int, key: str, value: str) -> None:
    check_tag(key, value)
    # The lock makes two first writers of one tag take turns; neither meets the other's row as an error.
    get_version_row(session, name, version, lock=True)
    session.merge(ModelVersionTagRow(name=name, version=version, key=key, value=value))
    session.flush()


def delete_tag(session: Session, name: str, version: int, key: str) -> None:
    """Take the tag away; one that isn't there is no error, as with MLflow."""
    check_tag_key(key)
    get_version_row(session, name, version, lock=True)
    tag = ModelVersionTagRow
    session.execute(delete(tag).where(tag.name == name, tag.version == version, tag.key == key))


def settle_digest(session: Session, name: str, version: int, manifest: Manifest) -> ModelVersion:
    """Hold a version, which was registered before its files were there, to *manifest* from now on.

    What is settled stays: a version that has a digest keeps it, and the caller compares.

    Raises:
        ModelVersionNotFound: if it was deleted in the meantime.
        FilesStillComing: if *manifest* isn't what its folder holds by now.
    """
    row = get_version_row(session, name, version, lock=True)
    if row.digest is None:
        manifests.hold_what_was_loaded(session, row, manifest)
    return to_version(session, row)


def _check_given(claim: Claim, run_link: str | None, description: str | None, tags: Mapping[str, str]) -> None:
    check_text(claim.run_id or "", "run_id", _RUN_ID_LENGTH_MAX)
    check_text(claim.model_id or "", "model_id", _MODEL_ID_LENGTH_MAX)
    check_text(run_link or "", "run_link", _RUN_LINK_LENGTH_MAX)
    check_description(description)
    for key, value in tags.items():
        check_tag(key, value)


def _prompt_origin(claim: Claim) -> Origin:
    if claim.source not in PROMPT_SOURCES:
        raise NotAPromptSource(claim.source)
    return Origin(source=claim.source, artifact_uri=claim.source, run_id=claim.run_id, model_id=None)
