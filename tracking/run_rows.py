"""Rows of runs as values, with all that belongs to them."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Executable, Table, select
from sqlalchemy.orm import Session

from tracking import run_inputs
from tracking.among import among
from tracking.entities import LifecycleStage, Run, RunInfo, RunStatus
from tracking.metrics import latest_metrics
from tracking.schema import ParamRow, RunRow, RunTagRow

RUNS = cast(Table, RunRow.__table__)

# What one IN of a page's ids may hold; SQLite bounds the parameters of a statement.
_IDS_PER_STATEMENT = 1_000


def run_to_row(info: RunInfo) -> dict[str, object]:
    return {
        "run_id": info.run_id,
        "experiment_id": int(info.experiment_id),
        "name": info.name,
        "user_id": info.user_id,
        "status": info.status,
        "start_time_ms": info.start_time_ms,
        "end_time_ms": info.end_time_ms,
        "artifact_uri": info.artifact_uri,
        "lifecycle_stage": info.lifecycle_stage,
    }


def row_to_info(row: Any) -> RunInfo:
    return RunInfo(
        run_id=row.run_id,
        experiment_id=str(row.experiment_id),
        name=row.name,
        user_id=row.user_id,
        status=RunStatus(row.status),
        start_time_ms=row.start_time_ms,
        end_time_ms=row.end_time_ms,
        artifact_uri=row.artifact_uri,
        lifecycle_stage=LifecycleStage(row.lifecycle_stage),
    )


def load_runs(session: Session, infos: Sequence[RunInfo]) -> list[Run]:
    """The runs with all that belongs to them: six statements for every thousand, however many there are of each."""
    runs: list[Run] = []
    for start in range(0, len(infos), _IDS_PER_STATEMENT):
        some = infos[start : start + _IDS_PER_STATEMENT]
        ids = [info.run_id for info in some]
        metrics = latest_metrics(session, ids)
        params, tags = _values(session, _PARAMS, ids), _values(session, _TAGS, ids)
        datasets = run_inputs.dataset_inputs(session, ids)
        used, made = run_inputs.model_inputs(session, ids), run_inputs.model_outputs(session, ids)
        runs += [
            Run(
                info=info,
                metrics=tuple(metrics[info.run_id]),
                params=params[info.run_id],
                tags=tags[info.run_id],
                dataset_inputs=tuple(datasets[info.run_id]),
                model_inputs=tuple(used[info.run_id]),
                model_outputs=tuple(made[info.run_id]),
            )
            for info in some
        ]
    return runs


def _values(session: Session, statement: Executable, run_ids: list[str]) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    for run_id, key, value in session.connection().execute(statement, {"ids": run_ids}).all():
        values[run_id][key] = value
    return values


def _values_of(row: type[ParamRow] | type[RunTagRow]) -> Executable:
    return select(row.run_id, row.key, row.value).where(among(row.run_id, "ids")).order_by(row.run_id, row.key)


# Built once, as every page of runs asks.
_PARAMS, _TAGS = _values_of(ParamRow), _values_of(RunTagRow)
