"""Runs: one execution each, with its params, tags and metrics, and what it used and made."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, bindparam, delete, select, update
from sqlalchemy.orm import Session

from tracking import run_inputs
from tracking.access.narrowing import ensure_may_change, narrowed
from tracking.entities import DatasetInput, LifecycleStage, Metric, ModelOutput, Run, RunInfo, RunStatus
from tracking.errors import InvalidParameter, NotFound
from tracking.experiments import hold_active_experiment
from tracking.friendly_names import friendly_name
from tracking.metrics import check_metric, check_metrics, write_metrics
from tracking.names import PARAM_LENGTH_MAX, RUN_TAG_LENGTH_MAX, check_and_cut, check_key, check_text, is_storable
from tracking.run_rows import RUNS, load_runs, row_to_info, run_to_row
from tracking.schema import ParamRow, RunRow, RunTagRow
from tracking.upserts import insert_new, upsert

METRICS_PER_BATCH_MAX = 1_000
PARAMS_AND_TAGS_PER_BATCH_MAX = 100
ENTITIES_PER_BATCH_MAX = 1_000
RUN_NAME_TAG = "mlflow.runName"
MODEL_HISTORY_TAG = "mlflow.log-model.history"


class RunNotFound(NotFound):
    def __init__(self, run_id: str) -> None:
        super().__init__(f"Run with id={run_id[:256]} not found")


class RunNotActive(InvalidParameter):
    def __init__(self, run_id: str, stage: str) -> None:
        super().__init__(f"The run {run_id} must be in the 'active' state. Current state is {stage}.")


class ParamChanged(InvalidParameter):
    """A param has one value for good."""

    def __init__(self, run_id: str, key: str, known: str, given: str) -> None:
        super().__init__(
            f"Changing param values is not allowed. Param with key={key!r} was already logged with value={known!r} "
            f"for run ID={run_id!r}. Attempted logging new value {given!r}."
        )


class RunTagNotFound(NotFound):
    def __init__(self, run_id: str, key: str) -> None:
        super().__init__(f"No tag with name: {key} in run with id {run_id}")


def create_run(
    session: Session,
    experiment_id: str,
    *,
    start_time_ms: int,
    name: str = "",
    user_id: str = "",
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Start a run. One that is given no name gets a friendly one.

    Raises:
        ExperimentNotFound: if there is no such experiment.
        ExperimentNotActive: if it is deleted.
    """
    experiment = hold_active_experiment(session, experiment_id)
    run_id = uuid.uuid4().hex
    checked = _checked_tags(tags or {})
    named = checked.get(RUN_NAME_TAG, "")
    if name and named and name != named:
        raise InvalidParameter(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name={name!r}, mlflow.runName={named!r})."
        )
    info = RunInfo(
        run_id=run_id,
        experiment_id=experiment.experiment_id,
        name=check_text(name, "run_name") or named or friendly_name(run_id),
        user_id=check_text(user_id, "user_id", 256),
        start_time_ms=start_time_ms,
        artifact_uri=f"{experiment.artifact_location}/{run_id}/artifacts",
    )
    checked[RUN_NAME_TAG] = check_and_cut(info.name, "run_name", RUN_TAG_LENGTH_MAX)
    insert_new(session, RunRow, [{**run_to_row(info), "deleted_ms": None}])
    _upsert_tags(session, run_id, checked)
    return Run(info=info, tags=checked)


def get_run(session: Session, run_id: str) -> Run:
    """The run and all that belongs to it, deleted or not.

    Raises:
        RunNotFound: if there is none with this id.
    """
    return load_runs(session, [get_run_info(session, run_id)])[0]


def get_run_info(session: Session, run_id: str) -> RunInfo:
    """The run alone, deleted or not.

    Raises:
        RunNotFound: if there is none with this id.
    """
    statement = narrowed(session, _BY_ID, RUNS.c.experiment_id)
    row = session.connection().execute(statement, {"id": run_id}).first() if is_storable(run_id) else None
    if row is None:
        raise RunNotFound(run_id)
    return row_to_info(row)


def require_changeable_run(session: Session, run_id: str) -> RunInfo:
    """The run alone, deleted or not, if the caller may change it.

    Raises:
        RunNotFound: if there is none with this id.
        NotGranted: if it is others' to change.
    """
    info = get_run_info(session, run_id)
    ensure_may_change(session, int(info.experiment_id))
    return info


def update_run(
    session: Session,
    run_id: str,
    *,
    status: RunStatus | None = None,
    end_time_ms: int | None = None,
    name: str | None = None,
) -> RunInfo:
    """Change what is given of an active run, and return what it is then."""
    _require_active(session, run_id)
    changes: dict[str, object] = {}
    if status is not None:
        changes["status"] = status
    if end_time_ms is not None:
        changes["end_time_ms"] = end_time_ms
    if changes:
        _update(session, run_id, changes)
    if name:
        _write_tags(session, run_id, {RUN_NAME_TAG: check_text(name, "run_name")})
    return get_run_info(session, run_id)


def delete_run(session: Session, run_id: str, *, now_ms: int) -> None:
    """Mark a run as deleted; nothing of it is lost."""
    require_changeable_run(session, run_id)
    _update(session, run_id, {"lifecycle_stage": LifecycleStage.DELETED, "deleted_ms": now_ms})


def restore_run(session: Session, run_id: str) -> None:
    require_changeable_run(session, run_id)
    _update(session, run_id, {"lifecycle_stage": LifecycleStage.ACTIVE, "deleted_ms": None})


def log_metric(session: Session, run_id: str, metric: Metric) -> None:
    """Add one point to a metric of an active run."""
    check_metric(metric)
    write_metrics(session, run_id, _require_active(session, run_id), [metric])


def log_param(session: Session, run_id: str, key: str, value: str) -> None:
    """Set a param of an active run; a value over 6000 signs is cut.

    Raises:
        ParamChanged: if it has another value already.
    """
    params = _checked_params({key: value})
    _require_active(session, run_id)
    _write_params(session, run_id, params)


def set_run_tag(session: Session, run_id: str, key: str, value: str) -> None:
    """Set a tag of an active run; ``mlflow.runName`` renames it."""
    tags = _checked_tags({key: value})
    _require_active(session, run_id)
    _write_tags(session, run_id, tags)


def delete_run_tag(session: Session, run_id: str, key: str) -> None:
    """Remove a tag of an active run.

    Raises:
        RunTagNotFound: if it doesn't have it.
    """
    check_key(key, "key")
    _require_active(session, run_id)
    statement = delete(RunTagRow).where(RunTagRow.run_id == run_id, RunTagRow.key == key)
    deleted: CursorResult[Any] = session.connection().execute(statement)
    if not deleted.rowcount:
        raise RunTagNotFound(run_id, key)


def log_batch(
    session: Session,
    run_id: str,
    *,
    metrics: Sequence[Metric] = (),
    params: Sequence[tuple[str, str]] = (),
    tags: Sequence[tuple[str, str]] = (),
) -> None:
    """Add points, params and tags to an active run, all or none of them; the same batch again changes nothing.

    Raises:
        ParamChanged: if a param has another value already.
    """
    _check_batch_sizes(len(metrics), len(params), len(tags))
    check_metrics(metrics)
    checked_params, checked_tags = _checked_params(_unique(params), "params."), _checked_tags(dict(tags), "tags.")
    experiment_id = _require_active(session, run_id)
    _write_params(session, run_id, checked_params)
    write_metrics(session, run_id, experiment_id, metrics)
    _write_tags(session, run_id, checked_tags)


def log_inputs(
    session: Session, run_id: str, *, datasets: Sequence[DatasetInput] = (), model_ids: Sequence[str] = ()
) -> None:
    """Say which datasets and logged models an active run used."""
    experiment_id = _require_active(session, run_id)
    run_inputs.write_dataset_inputs(session, run_id, experiment_id, datasets)
    run_inputs.write_model_inputs(session, run_id, model_ids)


def log_outputs(session: Session, run_id: str, outputs: Sequence[ModelOutput]) -> None:
    """Say which logged models an active run made."""
    _require_active(session, run_id)
    run_inputs.write_model_outputs(session, run_id, outputs)


def record_model(session: Session, run_id: str, model_json: str) -> None:
    """Note a model of MLflow's older kind (its MLmodel as JSON) in the run's history tag, as those clients expect.

    Raises:
        InvalidParameter: if it isn't such a description, or the history outgrows a tag.
    """
    model = _read_model(model_json)
    # Locked, because the history is read, and written back longer.
    _require_active(session, run_id, lock=True)
    statement = select(RunTagRow.value).where(RunTagRow.run_id == run_id, RunTagRow.key == MODEL_HISTORY_TAG)
    known = session.execute(statement).scalar_one_or_none()
    history = json.dumps([*_read_history(known), model])
    if len(history) > RUN_TAG_LENGTH_MAX:
        # Cut, as other tags are, it would no longer be JSON.
        raise InvalidParameter(f"The models of run {run_id} no longer fit into its tag {MODEL_HISTORY_TAG!r}.")
    _upsert_tags(session, run_id, {MODEL_HISTORY_TAG: history})


def _read_history(known: str | None) -> list[object]:
    try:
        history = json.loads(known or "[]")
    except ValueError:
        history = None
    if not isinstance(history, list):
        raise InvalidParameter(f"The tag {MODEL_HISTORY_TAG!r} was overwritten with something else than a JSON list.")
    return history


def _read_model(model_json: str) -> dict[str, object]:
    try:
        model = json.loads(model_json)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("Malformed model info: model_json is not a valid JSON.") from error
    if not isinstance(model, dict):
        raise InvalidParameter("Malformed model info: model_json is not a JSON object.")
    if missing := {"artifact_path", "flavors", "utc_time_created", "run_id"} - model.keys():
        raise InvalidParameter(f"Model json is missing mandatory fields: {sorted(missing)}")
    return model


class _Stage(NamedTuple):
    experiment_id: int
    lifecycle_stage: str


# Built once, as all that run with every point logged: building a statement takes longer than running it.
_BY_ID = select(RUNS).where(RUNS.c.run_id == bindparam("id"))
_STAGE = select(RUNS.c.experiment_id, RUNS.c.lifecycle_stage).where(RUNS.c.run_id == bindparam("id"))
_STAGE_HELD = _STAGE.with_for_update()


def _require_active(session: Session, run_id: str, *, lock: bool = False) -> int:
    """The number of the run's experiment, if the run may be written to."""
    statement = narrowed(session, _STAGE_HELD if lock else _STAGE, RUNS.c.experiment_id)
    row = session.connection().execute(statement, {"id": run_id}).first() if is_storable(run_id) else None
    if row is None:
        raise RunNotFound(run_id)
    stage = _Stage(*row)
    ensure_may_change(session, stage.experiment_id)
    if stage.lifecycle_stage != LifecycleStage.ACTIVE:
        raise RunNotActive(run_id, stage.lifecycle_stage)
    return stage.experiment_id


def _update(session: Session, run_id: str, changes: Mapping[str, object]) -> None:
    session.connection().execute(update(RUNS).where(RUNS.c.run_id == run_id).values(changes))


def _check_batch_sizes(metrics: int, params: int, tags: int) -> None:
    for what, length, length_max in (
        ("metrics", metrics, METRICS_PER_BATCH_MAX),
        ("params", params, PARAMS_AND_TAGS_PER_BATCH_MAX),
        ("tags", tags, PARAMS_AND_TAGS_PER_BATCH_MAX),
        ("metrics, params, and tags", metrics + params + tags, ENTITIES_PER_BATCH_MAX),
    ):
        if length > length_max:
            raise InvalidParameter(
                f"A batch logging request can contain at most {length_max} {what}. Got {length} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )


def _unique(params: Sequence[tuple[str, str]]) -> dict[str, str]:
    unique = dict(params)
    if len(unique) < len(params):
        keys = [key for key, _ in params]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        raise InvalidParameter(
            f"Duplicate parameter keys have been submitted: {repeated}. Please ensure the request contains only one "
            "param value per param key."
        )
    return unique


def _checked_params(params: Mapping[str, str], path: str = "") -> dict[str, str]:
    return {
        check_key(key, f"{path}key"): check_and_cut(value, f"{path}value", PARAM_LENGTH_MAX)
        for key, value in params.items()
    }


def _checked_tags(tags: Mapping[str, str], path: str = "") -> dict[str, str]:
    return {
        check_key(key, f"{path}key"): check_and_cut(value, f"{path}value", RUN_TAG_LENGTH_MAX)
        for key, value in tags.items()
    }


def _write_params(session: Session, run_id: str, params: Mapping[str, str]) -> None:
    if not params:
        return
    insert_new(session, ParamRow, [{"run_id": run_id, "key": key, "value": value} for key, value in params.items()])
    # Whoever came first has set it; of two writers at once the second waited for the first, and sees its value.
    statement = select(ParamRow.key, ParamRow.value).where(ParamRow.run_id == run_id, ParamRow.key.in_(list(params)))
    for key, known in session.execute(statement):
        if known != params[key]:
            raise ParamChanged(run_id, key, known, params[key])


def _write_tags(session: Session, run_id: str, tags: Mapping[str, str]) -> None:
    if name := tags.get(RUN_NAME_TAG):
        _update(session, run_id, {"name": name})
    _upsert_tags(session, run_id, tags)


def _upsert_tags(session: Session, run_id: str, tags: Mapping[str, str]) -> None:
    upsert(session, RunTagRow, [{"run_id": run_id, "key": key, "value": value} for key, value in tags.items()])
