"""What was deleted long ago, and its removal for good. Whether its artifacts may go is decided elsewhere."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, CursorResult, Delete, and_, delete, exists, or_, select
from sqlalchemy.orm import Session

from tracking.artifact_paths import ArtifactPath
from tracking.entities import LifecycleStage
from tracking.schema import ArtifactFileRow, ExperimentRow, LoggedModelRow, RunRow

# What one IN may hold; SQLite bounds the parameters of a statement.
_IDS_PER_STATEMENT = 500

# A fresh start would make it again, alive.
_DEFAULT_EXPERIMENT = 0

_Id = TypeVar("_Id", str, int)


class Owner(msgspec.Struct, frozen=True):
    """A run or a logged model, as an owner of artifacts."""

    id: str
    experiment_id: int
    artifact_uri: str


class ExpiredExperiment(msgspec.Struct, frozen=True):
    experiment_id: int
    name: str


def owners(session: Session) -> list[Owner]:
    """Every run and logged model that is there, deleted or not."""
    found = []
    for row, key in ((RunRow, RunRow.run_id), (LoggedModelRow, LoggedModelRow.model_id)):
        found += [Owner(*values) for values in session.execute(select(key, row.experiment_id, row.artifact_uri))]
    return found


def expired_runs(session: Session, before_ms: int) -> list[Owner]:
    """Runs that were deleted before then, themselves or with their experiment."""
    row = RunRow
    found = select(row.run_id, row.experiment_id, row.artifact_uri).where(_expired_run(before_ms))
    return [Owner(*values) for values in session.execute(found.order_by(row.run_id))]


def expired_logged_models(session: Session, before_ms: int) -> list[Owner]:
    """Logged models that were deleted before then, or whose experiment was."""
    row = LoggedModelRow
    found = select(row.model_id, row.experiment_id, row.artifact_uri).where(_expired_logged_model(before_ms))
    return [Owner(*values) for values in session.execute(found.order_by(row.model_id))]


def expired_experiments(session: Session, before_ms: int) -> list[ExpiredExperiment]:
    """Experiments that were deleted before then, whatever is in them."""
    row = ExperimentRow
    found = select(row.experiment_id, row.name).where(_expired_experiment(before_ms)).order_by(row.experiment_id)
    return [ExpiredExperiment(*values) for values in session.execute(found)]


def remove_runs(session: Session, run_ids: Sequence[str], before_ms: int) -> int:
    """Remove those of the runs that are expired still, with all that was logged to them; say how many there were."""
    return _remove(
        session, run_ids, lambda some: delete(RunRow).where(RunRow.run_id.in_(some), _expired_run(before_ms))
    )


def remove_logged_models(session: Session, model_ids: Sequence[str], before_ms: int) -> int:
    """Remove those of the logged models that are expired still."""
    row = LoggedModelRow
    return _remove(
        session, model_ids, lambda some: delete(row).where(row.model_id.in_(some), _expired_logged_model(before_ms))
    )


def remove_experiments(session: Session, experiment_ids: Sequence[int], before_ms: int) -> int:
    """Remove those of the experiments that are expired still and have no run or logged model left."""
    row = ExperimentRow
    empty = and_(
        ~exists().where(RunRow.experiment_id == row.experiment_id),
        ~exists().where(LoggedModelRow.experiment_id == row.experiment_id),
    )
    return _remove(
        session,
        experiment_ids,
        lambda some: delete(row).where(row.experiment_id.in_(some), _expired_experiment(before_ms), empty),
    )


def recorded_among(session: Session, paths: Sequence[ArtifactPath]) -> set[ArtifactPath]:
    """Those of *paths* that came through us, or that we let a client put there."""
    found: set[ArtifactPath] = set()
    for start in range(0, len(paths), _IDS_PER_STATEMENT):
        some = [str(path) for path in paths[start : start + _IDS_PER_STATEMENT]]
        known = session.scalars(select(ArtifactFileRow.path).where(ArtifactFileRow.path.in_(some)))
        found.update(ArtifactPath.parse(path) for path in known)
    return found


def _expired_run(before_ms: int) -> ColumnElement[bool]:
    return and_(RunRow.lifecycle_stage == LifecycleStage.DELETED, RunRow.deleted_ms <= before_ms)


def _expired_logged_model(before_ms: int) -> ColumnElement[bool]:
    row = LoggedModelRow
    itself = and_(row.lifecycle_stage == LifecycleStage.DELETED, row.updated_ms <= before_ms)
    experiments = select(ExperimentRow.experiment_id).where(_expired_experiment(before_ms))
    return or_(itself, row.experiment_id.in_(experiments))


def _expired_experiment(before_ms: int) -> ColumnElement[bool]:
    # Nothing changes a deleted experiment, so its last change is its deletion.
    row = ExperimentRow
    return and_(
        row.lifecycle_stage == LifecycleStage.DELETED,
        row.updated_ms <= before_ms,
        row.experiment_id != _DEFAULT_EXPERIMENT,
    )


def _remove(session: Session, ids: Sequence[_Id], statement: Callable[[Sequence[_Id]], Delete]) -> int:
    removed = 0
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        some = ids[start : start + _IDS_PER_STATEMENT]
        result: CursorResult[Any] = session.connection().execute(statement(some))
        removed += result.rowcount
    return removed
