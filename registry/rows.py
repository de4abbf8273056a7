"""From rows to entities, a page at a time, and the lock that orders a model's writers.

Nothing outside the package sees a row; nothing inside it builds an entity by another way. Nor does anything get at a
model by another way: here it is asked whether the session's caller may see it, or change it where it is locked.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    CompoundSelect,
    Executable,
    Row,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from registry.entities import ModelVersion, RegisteredModel, VersionKey
from registry.errors import ModelVersionNotFound, RegisteredModelNotFound
from registry.granted import ensure_may_change, may_see
from registry.names import check_model_name
from registry.schema import AliasRow, ModelVersionRow, ModelVersionTagRow, RegisteredModelRow, RegisteredModelTagRow

# Bound parameters of one statement; SQLite allows 32,766, and a page may hold 200,000 versions.
_KEYS_PER_STATEMENT = 1_000

# PostgreSQL's INTEGER. A larger number can't be a version, and binding it would be an error of the driver's.
_VERSION_MAX = 2**31 - 1

_Item = TypeVar("_Item")


def ensure_model_seen(session: Session, name: str) -> None:
    """Raise `RegisteredModelNotFound` for a model that the caller may not see, whether it is there or not."""
    check_model_name(name)
    if not may_see(session, name):
        raise RegisteredModelNotFound(name)


def ensure_model_actable(session: Session, name: str) -> None:
    """Let the caller change model *name*.

    Raises:
        RegisteredModelNotFound: if they may not even see it.
        NotGranted: if they may not change it.
    """
    check_model_name(name)
    ensure_may_change(session, name, RegisteredModelNotFound(name))


def get_model_row(session: Session, name: str, *, lock: bool = False) -> RegisteredModelRow:
    """The model's row. Locked, it orders everything that writers do to one model, its versions and its aliases.

    Raises:
        RegisteredModelNotFound: if there is no model *name* that the caller may see.
        NotGranted: if it is to be locked and they may not change it.
    """
    if lock:
        ensure_model_actable(session, name)
    else:
        ensure_model_seen(session, name)
    row = session.get(RegisteredModelRow, name, with_for_update=lock or None)
    if row is None:
        raise RegisteredModelNotFound(name)
    return row


def lock_model(session: Session, name: str) -> None:
    """Take the lock of `get_model_row` where the row itself isn't wanted.

    Raises:
        RegisteredModelNotFound, NotGranted: as there.
    """
    ensure_model_actable(session, name)
    session.flush()
    if session.connection().execute(_LOCKED_MODEL, {"name": name}).first() is None:
        raise RegisteredModelNotFound(name)


def draw_version(session: Session, name: str, now_ms: int) -> int:
    """The next number of model *name*, and with it the lock that orders what writers do to the model.

    Raises:
        RegisteredModelNotFound, NotGranted: as `get_model_row` for a writer.
    """
    ensure_model_actable(session, name)
    session.flush()
    drawn: int | None = session.connection().execute(_DRAWN, {"model": name, "now_ms": now_ms}).scalar()
    if drawn is None:
        raise RegisteredModelNotFound(name)
    return drawn


def insert_version(session: Session, row: ModelVersionRow) -> None:
    """Write *row*, which isn't and won't be the session's: its unit of work costs more than all else about it."""
    session.connection().execute(_INSERTED, {column: getattr(row, column) for column in _VERSION_COLUMNS})


def ensure_version(session: Session, name: str, version: int) -> None:
    """Raise `ModelVersionNotFound` unless there is such a version."""
    if (
        not _can_be(version)
        or session.connection().execute(_VERSION, {"name": name, "version": version}).first() is None
    ):
        raise ModelVersionNotFound(name, version)


def get_version_row(session: Session, name: str, version: int, *, lock: bool = False) -> ModelVersionRow:
    """The version's row; locked together with its model's.

    Raises:
        ModelVersionNotFound: if there is none that the caller may see, whether for want of the model or of the number.
        NotGranted: if it is to be locked and they may not change its model.
    """
    check_model_name(name)
    if lock:
        ensure_may_change(session, name, ModelVersionNotFound(name, version))
        # Always the model first: two writers that lock in one order can't wait for each other.
        session.get(RegisteredModelRow, name, with_for_update=True)
    elif not may_see(session, name):
        raise ModelVersionNotFound(name, version)
    row = session.get(ModelVersionRow, (name, version), populate_existing=True) if _can_be(version) else None
    if row is None:
        raise ModelVersionNotFound(name, version)
    return row


def to_version(session: Session, row: ModelVersionRow | Row[Any]) -> ModelVersion:
    return to_versions(session, [row])[0]


def to_versions(session: Session, rows: Sequence[ModelVersionRow | Row[Any]]) -> list[ModelVersion]:
    """The versions in the order of *rows* (or of what a page read of them), tags and aliases fetched together."""
    session.flush()
    if len(rows) == 1:
        return [_version(rows[0], *_tags_and_aliases(session, rows[0].name, rows[0].version))]
    keys = [(row.name, row.version) for row in rows]
    tags = _version_tags(session, keys)
    aliases = _aliases(session, sorted({name for name, _ in keys}))
    return [
        _version(
            row,
            tags[row.name, row.version],
            tuple(alias for alias, version in aliases[row.name].items() if version == row.version),
        )
        for row in rows
    ]


def to_new_version(row: ModelVersionRow, tags: Mapping[str, str]) -> ModelVersion:
    """The version that *row* has just become: nobody but its maker can have tagged it, and no alias means it yet."""
    return _version(row, dict(sorted(tags.items())), ())


def _version(row: ModelVersionRow | Row[Any], tags: dict[str, str], aliases: tuple[str, ...]) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        version=row.version,
        source=row.source,
        artifact_uri=row.artifact_uri,
        digest=row.digest,
        run_id=row.run_id,
        run_link=row.run_link,
        model_id=row.model_id,
        user_id=row.user_id,
        author=row.author,
        description=row.description,
        stage=row.stage,
        status=row.status,
        status_message=row.status_message,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        tags=tags,
        aliases=aliases,
    )


def to_model(session: Session, row: RegisteredModelRow) -> RegisteredModel:
    return to_models(session, [row])[0]


def to_models(session: Session, rows: Sequence[RegisteredModelRow] | Sequence[Row[Any]]) -> list[RegisteredModel]:
    """The models in the order of *rows*, with tags, aliases and newest versions fetched together."""
    session.flush()
    names = [row.name for row in rows]
    tags = _model_tags(session, names)
    aliases = _aliases(session, names)
    latest: dict[str, list[ModelVersion]] = defaultdict(list)
    for newest in latest_versions(session, names):
        latest[newest.name].append(newest)
    return [
        RegisteredModel(
            name=row.name,
            description=row.description,
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            tags=tags[row.name],
            aliases=aliases[row.name],
            latest_versions=tuple(latest[row.name]),
        )
        for row in rows
    ]


def latest_versions(session: Session, names: Sequence[str]) -> list[ModelVersion]:
    """The newest version of each stage of each model, by name and number."""
    found: list[ModelVersionRow] = []
    for some in _slices(sorted(set(names))):
        newest = (
            select(ModelVersionRow.name, func.max(ModelVersionRow.version).label("version"))
            .where(ModelVersionRow.name.in_(some))
            .group_by(ModelVersionRow.name, ModelVersionRow.stage)
            .subquery()
        )
        found += session.scalars(
            select(ModelVersionRow)
            .join(newest, (ModelVersionRow.name == newest.c.name) & (ModelVersionRow.version == newest.c.version))
            .order_by(ModelVersionRow.name, ModelVersionRow.version)
        )
    return to_versions(session, found)


# Built once, as almost every call of the registry runs them: building a statement takes longer than running it.
_LOCKED_MODEL = select(RegisteredModelRow.name).where(RegisteredModelRow.name == bindparam("name")).with_for_update()
_MODELS: Any = RegisteredModelRow.__table__
_DRAWN = (
    update(_MODELS)
    .where(_MODELS.c.name == bindparam("model"))
    .values(latest_version=_MODELS.c.latest_version + 1, updated_ms=bindparam("now_ms"))
    .returning(_MODELS.c.latest_version)
)
_INSERTED = insert(ModelVersionRow)
_VERSION_COLUMNS = tuple(column.name for column in ModelVersionRow.__table__.columns)
_VERSION = select(ModelVersionRow.version).where(
    ModelVersionRow.name == bindparam("name"), ModelVersionRow.version == bindparam("version")
)
_VERSION_TAGS = (
    select(ModelVersionTagRow.name, ModelVersionTagRow.version, ModelVersionTagRow.key, ModelVersionTagRow.value)
    .where(tuple_(ModelVersionTagRow.name, ModelVersionTagRow.version).in_(bindparam("keys", expanding=True)))
    .order_by(ModelVersionTagRow.key)
)
# Most calls are about one version, and a statement more is a third more time for them.
_TAGS_AND_ALIASES: CompoundSelect[Any] = union_all(
    select(literal_column("1"), ModelVersionTagRow.key, ModelVersionTagRow.value).where(
        ModelVersionTagRow.name == bindparam("name"), ModelVersionTagRow.version == bindparam("version")
    ),
    select(literal_column("0"), AliasRow.alias, literal_column("''")).where(
        AliasRow.name == bindparam("name"), AliasRow.version == bindparam("version")
    ),
)
_MODEL_TAGS = (
    select(RegisteredModelTagRow.name, RegisteredModelTagRow.key, RegisteredModelTagRow.value)
    .where(RegisteredModelTagRow.name.in_(bindparam("keys", expanding=True)))
    .order_by(RegisteredModelTagRow.key)
)
_ALIASES_OF_MODEL = (
    select(AliasRow.alias, AliasRow.version).where(AliasRow.name == bindparam("name")).order_by(AliasRow.alias)
)
_ALIASES = (
    select(AliasRow.name, AliasRow.alias, AliasRow.version)
    .where(AliasRow.name.in_(bindparam("keys", expanding=True)))
    .order_by(AliasRow.alias)
)


def _tags_and_aliases(session: Session, name: str, version: int) -> tuple[dict[str, str], tuple[str, ...]]:
    tags, aliases = {}, []
    found = session.connection().execute(_TAGS_AND_ALIASES, {"name": name, "version": version}).all()
    for is_tag, key, value in sorted(found):
        if is_tag:
            tags[key] = value
        else:
            aliases.append(key)
    return tags, tuple(aliases)


def _version_tags(session: Session, keys: Sequence[VersionKey]) -> dict[VersionKey, dict[str, str]]:
    found: dict[VersionKey, dict[str, str]] = defaultdict(dict)
    for name, version, key, value in _rows_of(session, _VERSION_TAGS, keys):
        found[name, version][key] = value
    return found


def _model_tags(session: Session, names: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name, key, value in _rows_of(session, _MODEL_TAGS, names):
        found[name][key] = value
    return found


def _aliases(session: Session, names: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    if len(names) == 1:
        rows = session.connection().execute(_ALIASES_OF_MODEL, {"name": names[0]})
        found[names[0]].update((alias, version) for alias, version in rows.all())
        return found
    for name, alias, version in _rows_of(session, _ALIASES, names):
        found[name][alias] = version
    return found


def _rows_of(session: Session, statement: Executable, keys: Sequence[_Item]) -> Iterable[Row[*tuple[Any, ...]]]:
    """What *statement* finds for *keys*, a slice of them at a time."""
    connection = session.connection()
    for some in _slices(keys):
        yield from connection.execute(statement, {"keys": list(some)})


def _slices(items: Sequence[_Item]) -> Iterable[Sequence[_Item]]:
    return (items[start : start + _KEYS_PER_STATEMENT] for start in range(0, len(items), _KEYS_PER_STATEMENT))


def _can_be(version: int) -> bool:
    return 0 < version <= _VERSION_MAX
