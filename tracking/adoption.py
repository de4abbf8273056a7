"""Things of another server, brought in with the ids and times they have there. Doing it again changes nothing more."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy import Table, delete, select
from sqlalchemy.orm import Session

from tracking import run_inputs
from tracking.entities import Experiment, LifecycleStage, LoggedModel, Metric, Run
from tracking.experiments import DEFAULT_ARTIFACT_ROOT, create_experiment, default_artifact_location
from tracking.metrics import check_metric, stored_value, write_metrics
from tracking.names import (
    EXPERIMENT_TAG_LENGTH_MAX,
    PARAM_LENGTH_MAX,
    RUN_TAG_LENGTH_MAX,
    check_and_cut,
    check_experiment_name,
    check_key,
    check_text,
)
from tracking.run_rows import run_to_row
from tracking.schema import (
    Base,
    ExperimentRow,
    ExperimentTagRow,
    LoggedModelMetricRow,
    LoggedModelParamRow,
    LoggedModelRow,
    LoggedModelTagRow,
    ModelInputRow,
    ModelOutputRow,
    ParamRow,
    RunRow,
    RunTagRow,
)
from tracking.upserts import upsert

EXPERIMENTS = cast(Table, ExperimentRow.__table__)

# PostgreSQL's sequence would go on behind a larger number and soon be at its end.
_NUMBER_MAX = 2**53


def adopt_experiment(session: Session, experiment: Experiment, *, artifact_root: str = DEFAULT_ARTIFACT_ROOT) -> str:
    """Have *experiment*, and return the id that it has here.

    One of the same name is taken for the same. Else it keeps its number if that is free, and gets a new one if not.
    """
    check_experiment_name(experiment.name)
    row = session.scalar(select(ExperimentRow).where(ExperimentRow.name == experiment.name))
    if row is None:
        row = _new_experiment(session, experiment, artifact_root)
    if experiment.lifecycle_stage is LifecycleStage.DELETED:
        row.lifecycle_stage, row.updated_ms = LifecycleStage.DELETED, experiment.updated_ms
    session.flush()
    _replace(
        session, ExperimentTagRow, {"experiment_id": row.experiment_id}, experiment.tags, EXPERIMENT_TAG_LENGTH_MAX
    )
    return str(row.experiment_id)


def _new_experiment(session: Session, experiment: Experiment, artifact_root: str) -> ExperimentRow:
    number = int(experiment.experiment_id)
    if number > _NUMBER_MAX or session.get(ExperimentRow, number) is not None:
        number = int(create_experiment(session, experiment.name, now_ms=0, artifact_root=artifact_root))
        row = session.get_one(ExperimentRow, number)
    else:
        row = ExperimentRow(
            experiment_id=number,
            name=experiment.name,
            artifact_location=default_artifact_location(artifact_root, str(number)),
            lifecycle_stage=LifecycleStage.ACTIVE,
        )
        session.add(row)
    row.created_ms, row.updated_ms = experiment.created_ms, experiment.updated_ms
    return row


def adopt_run(session: Session, run: Run, *, now_ms: int) -> None:
    """Have *run*, with its params, tags, inputs and outputs; the points of its metrics come by `adopt_points`.

    A deleted run counts as deleted now, since no server says when it was.
    """
    info = run.info
    run_id, experiment_id = info.run_id, int(info.experiment_id)
    deleted = info.lifecycle_stage is LifecycleStage.DELETED
    checked = msgspec.structs.replace(
        info, name=check_text(info.name, "run_name"), user_id=check_text(info.user_id, "user_id", 256)
    )
    upsert(session, RunRow, [{**run_to_row(checked), "deleted_ms": now_ms if deleted else None}])
    _replace(session, ParamRow, {"run_id": run_id}, run.params, PARAM_LENGTH_MAX)
    _replace(session, RunTagRow, {"run_id": run_id}, run.tags, RUN_TAG_LENGTH_MAX)
    for links in (ModelInputRow, ModelOutputRow):
        session.execute(delete(links).where(links.run_id == run_id))
    run_inputs.write_dataset_inputs(session, run_id, experiment_id, run.dataset_inputs)
    run_inputs.write_model_inputs(session, run_id, run.model_inputs)
    run_inputs.write_model_outputs(session, run_id, run.model_outputs)


def adopt_points(session: Session, run_id: str, experiment_id: str, points: Sequence[Metric]) -> None:
    """Add points to the history of a run's metrics, however many."""
    write_metrics(session, run_id, int(experiment_id), [check_metric(point) for point in points])


def adopt_logged_model(session: Session, model: LoggedModel) -> None:
    """Have *model*, with its params, tags and metrics; of those only what was logged by runs that are here."""
    row = {
        "model_id": check_text(model.model_id, "model_id", 36),
        "experiment_id": int(model.experiment_id),
        "name": check_text(model.name, "name", 500),
        "model_type": model.model_type,
        "source_run_id": model.source_run_id,
        "artifact_uri": model.artifact_uri,
        "status": model.status,
        "status_message": model.status_message,
        "lifecycle_stage": model.lifecycle_stage,
        "created_ms": model.created_ms,
        "updated_ms": model.updated_ms,
    }
    upsert(session, LoggedModelRow, [row])
    _replace(session, LoggedModelParamRow, {"model_id": model.model_id}, model.params, PARAM_LENGTH_MAX)
    _replace(session, LoggedModelTagRow, {"model_id": model.model_id}, model.tags, RUN_TAG_LENGTH_MAX)
    run_ids = {point.run_id for point in model.metrics}
    known = set(session.scalars(select(RunRow.run_id).where(RunRow.run_id.in_(run_ids))))
    rows = [_model_point(model.model_id, check_metric(point)) for point in model.metrics if point.run_id in known]
    upsert(session, LoggedModelMetricRow, rows)


def _model_point(model_id: str, point: Metric) -> dict[str, Any]:
    value, is_nan = stored_value(point.value)
    return {
        "model_id": model_id,
        "key": point.key,
        "timestamp_ms": point.timestamp_ms,
        "step": point.step,
        "run_id": point.run_id,
        "dataset_name": point.dataset_name or "",
        "dataset_digest": point.dataset_digest or "",
        "value": value,
        "is_nan": is_nan,
    }


def _replace(
    session: Session, row: type[Base], owner: Mapping[str, object], values: Mapping[str, str], length_max: int
) -> None:
    """Let the owner have exactly these keys and values."""
    table = row.__table__
    session.execute(delete(row).where(*(table.c[name] == value for name, value in owner.items())))
    rows = [
        {**owner, "key": check_key(key, "key"), "value": check_and_cut(value, "value", length_max)}
        for key, value in values.items()
    ]
    upsert(session, row, rows)
