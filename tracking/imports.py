"""What was copied from other servers: so that copying again copies only what is new, and both sides can be counted."""

from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, String, cast, func, select
from sqlalchemy.orm import Session

from tracking.artifact_paths import ArtifactPath
from tracking.schema import (
    ArtifactFileRow,
    ExperimentRow,
    ImportRow,
    LoggedModelRow,
    MetricRow,
    ParamRow,
    RunRow,
    RunTagRow,
)
from tracking.upserts import upsert


class Kind(StrEnum):
    EXPERIMENT = "experiment"
    RUN = "run"
    LOGGED_MODEL = "logged_model"
    REGISTERED_MODEL = "registered_model"
    VERSION = "version"
    ALIAS = "alias"


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was copied."""

    source: str
    kind: Kind
    id: str
    local_id: str
    fingerprint: str
    points: int = 0
    files: int = 0
    size: int = 0
    """Bytes of its artifacts."""


def find_import(session: Session, source: str, kind: Kind, id: str) -> Import | None:
    row = session.get(ImportRow, (source, kind, id))
    return None if row is None else _to_import(row)


def record_import(session: Session, done: Import, now_ms: int) -> None:
    """Remember that *done* has been copied whole."""
    upsert(session, ImportRow, [{**msgspec.structs.asdict(done), "done_ms": now_ms}])


def list_imports(session: Session, source: str, kind: Kind) -> list[Import]:
    rows = session.scalars(select(ImportRow).where(ImportRow.source == source, ImportRow.kind == kind))
    return [_to_import(row) for row in rows]


class TrackingCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What there is here of what was copied."""

    experiments: int
    runs: int
    params: int
    tags: int
    points: int
    logged_models: int


def count_tracking(session: Session, source: str) -> TrackingCounts:
    """Count the rows themselves, of every run and logged model that was copied from *source*."""
    runs, models = _ids(source, Kind.RUN), _ids(source, Kind.LOGGED_MODEL)

    def count(condition: ColumnElement[bool]) -> int:
        return session.scalar(select(func.count()).where(condition)) or 0

    return TrackingCounts(
        experiments=count(cast(ExperimentRow.experiment_id, String).in_(_ids(source, Kind.EXPERIMENT))),
        runs=count(RunRow.run_id.in_(runs)),
        params=count(ParamRow.run_id.in_(runs)),
        tags=count(RunTagRow.run_id.in_(runs)),
        points=count(MetricRow.run_id.in_(runs)),
        logged_models=count(LoggedModelRow.model_id.in_(models)),
    )


def count_artifacts(session: Session, folder: ArtifactPath) -> tuple[int, int]:
    """How many files are recorded below *folder*, and their bytes."""
    path = ArtifactFileRow.path
    # A range of the index: '0' is the character after '/'.
    counted = select(func.count(), func.sum(ArtifactFileRow.size)).where(path > f"{folder}/", path < f"{folder}0")
    files, size = session.execute(counted).one()
    return files, int(size or 0)


def _ids(source: str, kind: Kind) -> Select[Any]:
    return select(ImportRow.local_id).where(ImportRow.source == source, ImportRow.kind == kind)


def _to_import(row: ImportRow) -> Import:
    return Import(
        source=row.source,
        kind=Kind(row.kind),
        id=row.id,
        local_id=row.local_id,
        fingerprint=row.fingerprint,
        points=row.points,
        files=row.files,
        size=row.size,
    )
