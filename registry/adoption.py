"""Registered models and versions of another server, brought in with their numbers and times."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import ColumnElement, String, cast, delete, func, select
from sqlalchemy.orm import Session

from registry import manifests, models
from registry.entities import ModelVersion
from registry.names import canonical_stage, check_description, check_tag
from registry.rows import get_model_row
from registry.schema import AliasRow, ModelVersionRow, ModelVersionTagRow, RegisteredModelRow, RegisteredModelTagRow
from tracking.errors import Conflict
from tracking.imports import Kind
from tracking.names import check_text
from tracking.schema import ImportRow


class VersionTaken(Conflict):
    """A number that means another version here."""

    def __init__(self, name: str, version: int, source: str) -> None:
        super().__init__(
            f"Version {version} of {name!r} is here already, and was made from {source[:200]}. Rename that model, or "
            "import into an empty store."
        )


def adopt_model(
    session: Session, name: str, *, description: str | None, tags: Mapping[str, str], created_ms: int, updated_ms: int
) -> None:
    """Have a model of this name, described and tagged so. One of the same name is taken for the same."""
    row = session.get(RegisteredModelRow, name)
    if row is None:
        models.create_model(session, name, now_ms=created_ms, description=description, tags=tags)
        row = get_model_row(session, name)
    check_description(description)
    row.description, row.created_ms, row.updated_ms = description, created_ms, updated_ms
    session.flush()
    session.execute(delete(RegisteredModelTagRow).where(RegisteredModelTagRow.name == name))
    for key, value in tags.items():
        check_tag(key, value)
        session.add(RegisteredModelTagRow(name=name, key=key, value=value))
    session.flush()


def adopt_version(session: Session, version: ModelVersion) -> None:
    """Have *version* under its own number, held to its files as they were recorded when they came here.

    Of one that is here already, what may change follows: description, stage, tags and status.

    Raises:
        RegisteredModelNotFound: if its model isn't here.
        VersionTaken: if the number is another one's.
    """
    model = get_model_row(session, version.name, lock=True)
    row = session.get(ModelVersionRow, (version.name, version.version))
    if row is None:
        row = _new_version(version)
        session.add(row)
        session.flush()
        if manifests.folder_of(row.artifact_uri) is not None:
            manifests.hold_what_was_uploaded(session, row)
    elif (row.source, row.artifact_uri) != (version.source, version.artifact_uri):
        raise VersionTaken(version.name, version.version, row.source)
    check_description(version.description)
    row.description, row.stage = version.description, canonical_stage(version.stage)
    row.status, row.status_message, row.updated_ms = version.status, version.status_message, version.updated_ms
    # Never lowered: numbers that were given are not given again.
    model.latest_version = max(model.latest_version, version.version)
    session.flush()
    tag = ModelVersionTagRow
    session.execute(delete(tag).where(tag.name == version.name, tag.version == version.version))
    for key, value in version.tags.items():
        check_tag(key, value)
        session.add(tag(name=version.name, version=version.version, key=key, value=value))
    session.flush()


def _new_version(version: ModelVersion) -> ModelVersionRow:
    return ModelVersionRow(
        name=version.name,
        version=version.version,
        source=check_text(version.source, "source", 4_000),
        artifact_uri=version.artifact_uri,
        run_id=version.run_id,
        run_link=version.run_link,
        model_id=version.model_id,
        user_id=version.user_id,
        created_ms=version.created_ms,
        updated_ms=version.updated_ms,
    )


def version_id(name: str, version: int | str) -> str:
    """How imports call a version."""
    return f"{name}/{version}"


def alias_id(name: str, alias: str) -> str:
    """How imports call an alias."""
    return f"{name}@{alias}"


class RegistryCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What there is here of what was copied."""

    registered_models: int
    versions: int
    aliases: int


def count_registry(session: Session, source: str) -> RegistryCounts:
    """Count the rows themselves, of every model, version and alias that was copied from *source*."""

    def count(name: ColumnElement[str], kind: Kind) -> int:
        copied = select(ImportRow.local_id).where(ImportRow.source == source, ImportRow.kind == kind)
        return session.scalar(select(func.count()).where(name.in_(copied))) or 0

    version, alias = ModelVersionRow, AliasRow
    return RegistryCounts(
        registered_models=count(cast(RegisteredModelRow.name, String), Kind.REGISTERED_MODEL),
        versions=count(version.name + "/" + cast(version.version, String), Kind.VERSION),
        aliases=count(alias.name + "@" + alias.alias, Kind.ALIAS),
    )
