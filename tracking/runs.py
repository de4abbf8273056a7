"""Runs: one execution each, with its params, tags and metrics, and what it used and made."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, CursorResult, String, Table, delete, exists, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from tracking import run_inputs
from tracking.entities import (
    DatasetInput,
    LifecycleStage,
    Metric,
    ModelOutput,
    Run,
    RunInfo,
    RunStatus,
    ViewType,
)
from tracking.errors import InvalidParameter, NotFound
from tracking.experiments import ExperimentNotFound, parse_experiment_id, require_active_experiment
from tracking.filters import compares
from tracking.friendly_names import friendly_name
from tracking.metrics import check_metric, latest_metrics, write_metrics
from tracking.names import PARAM_LENGTH_MAX, RUN_TAG_LENGTH_MAX, check_and_cut, check_key, check_text, is_storable
from tracking.paging import Page, Term, check_page_size
from tracking.schema import DatasetInputRow, DatasetRow, LatestMetricRow, ParamRow, RunRow, RunTagRow
from tracking.search import Comparison, Entity, ValueType, Vocabulary
from tracking.searching import Child, Searchable, search_page
from tracking.upserts import insert_new, upsert

METRICS_PER_BATCH_MAX = 1_000
PARAMS_AND_TAGS_PER_BATCH_MAX = 100
ENTITIES_PER_BATCH_MAX = 1_000
SEARCH_PAGE_SIZE_MAX = 50_000
RUN_NAME_TAG = "mlflow.runName"

# What one IN of a page's ids may hold; SQLite bounds the parameters of a statement.
_IDS_PER_STATEMENT = 1_000


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
    experiment = require_active_experiment(session, experiment_id)
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
    insert_new(session, RunRow, [{**_to_row(info), "deleted_ms": None}])
    _upsert_tags(session, run_id, checked)
    return Run(info=info, tags=checked)


def get_run(session: Session, run_id: str) -> Run:
    """The run and all that belongs to it, deleted or not.

    Raises:
        RunNotFound: if there is none with this id.
    """
    return _load_runs(session, [get_run_info(session, run_id)])[0]


def get_run_info(session: Session, run_id: str) -> RunInfo:
    """The run alone, deleted or not.

    Raises:
        RunNotFound: if there is none with this id.
    """
    row = session.execute(select(_RUNS).where(_RUNS.c.run_id == run_id)).one_or_none() if is_storable(run_id) else None
    if row is None:
        raise RunNotFound(run_id)
    return _to_info(row)


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
    get_run_info(session, run_id)
    _update(session, run_id, {"lifecycle_stage": LifecycleStage.DELETED, "deleted_ms": now_ms})


def restore_run(session: Session, run_id: str) -> None:
    get_run_info(session, run_id)
    _update(session, run_id, {"lifecycle_stage": LifecycleStage.ACTIVE, "deleted_ms": None})


def log_metric(session: Session, run_id: str, metric: Metric) -> None:
    """Add one point to a metric of an active run."""
    check_metric(metric)
    _require_active(session, run_id)
    write_metrics(session, run_id, [metric])


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
    for number, metric in enumerate(metrics):
        check_metric(metric, f"metrics[{number}].")
    checked_params, checked_tags = _checked_params(_unique(params), "params."), _checked_tags(dict(tags), "tags.")
    _require_active(session, run_id)
    _write_params(session, run_id, checked_params)
    write_metrics(session, run_id, metrics)
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


def search_runs(
    session: Session,
    experiment_ids: Sequence[str],
    *,
    filter_text: str | None = None,
    view: ViewType = ViewType.ACTIVE_ONLY,
    order_by: Sequence[str] = (),
    max_results: int = 1_000,
    page_token: str | None = None,
) -> Page[Run]:
    """A page of runs, newest first unless *order_by* says otherwise. Experiments that don't exist have none."""
    check_page_size(max_results, SEARCH_PAGE_SIZE_MAX)
    page = search_page(
        session,
        _SEARCHABLE,
        scope=[_COLUMNS.experiment_id.in_(_known_numbers(experiment_ids)), _in_stages(view)],
        scope_key=(sorted(experiment_ids), view),
        filter_text=filter_text,
        order_by=order_by,
        max_results=max_results,
        token=page_token,
    )
    return Page(_load_runs(session, [_to_info(row) for row in page.items]), page.next_page_token)


def _in_stages(view: ViewType) -> ColumnElement[bool]:
    # One value as an equation: the listing's index then gives the order by itself, which an IN would hide.
    stages = view.stages
    return _COLUMNS.lifecycle_stage == stages[0] if len(stages) == 1 else _COLUMNS.lifecycle_stage.in_(stages)


def _known_numbers(experiment_ids: Sequence[str]) -> list[int]:
    numbers = []
    for experiment_id in experiment_ids:
        try:
            numbers.append(parse_experiment_id(experiment_id))
        except ExperimentNotFound:
            continue
    return numbers


def _dataset_condition(comparison: Comparison) -> ColumnElement[bool]:
    dataset, link = DatasetRow, DatasetInputRow
    column = {"name": dataset.name, "digest": dataset.digest, "context": link.context}[comparison.field.key]
    return (
        exists()
        .where(link.run_id == _COLUMNS.run_id, dataset.dataset_id == link.dataset_id, compares(column, comparison))
        .correlate(_RUNS)
    )


_RUNS = cast(Table, RunRow.__table__)
_COLUMNS = _RUNS.c
_SEARCHABLE = Searchable(
    table=_RUNS,
    identity=_COLUMNS.run_id,
    vocabulary=Vocabulary(
        attributes={
            **dict.fromkeys(
                ("run_id", "run_name", "user_id", "status", "artifact_uri", "experiment_id"), ValueType.TEXT
            ),
            **dict.fromkeys(("start_time", "end_time"), ValueType.NUMBER),
        },
        aliases={"created": "start_time", "run name": "run_name"},
        entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG, Entity.DATASET}),
    ),
    columns={
        "run_id": _COLUMNS.run_id,
        "run_name": _COLUMNS.name,
        "user_id": _COLUMNS.user_id,
        "status": _COLUMNS.status,
        "artifact_uri": _COLUMNS.artifact_uri,
        "experiment_id": sql_cast(_COLUMNS.experiment_id, String),
        "start_time": _COLUMNS.start_time_ms,
        "end_time": _COLUMNS.end_time_ms,
    },
    default_order=[
        Term(_COLUMNS.start_time_ms, ValueType.NUMBER, ascending=False),
        Term(_COLUMNS.run_id, ValueType.TEXT),
    ],
    children={
        Entity.METRIC: Child(cast(Table, LatestMetricRow.__table__), "run_id", has_nan=True),
        Entity.PARAM: Child(cast(Table, ParamRow.__table__), "run_id", has_head=True),
        Entity.TAG: Child(cast(Table, RunTagRow.__table__), "run_id", has_head=True),
    },
    dataset_condition=_dataset_condition,
)


class _Stage(NamedTuple):
    experiment_id: int
    lifecycle_stage: str


def _require_active(session: Session, run_id: str) -> int:
    """The number of the run's experiment, if the run may be written to."""
    statement = select(_COLUMNS.experiment_id, _COLUMNS.lifecycle_stage).where(_COLUMNS.run_id == run_id)
    row = session.execute(statement).one_or_none() if is_storable(run_id) else None
    if row is None:
        raise RunNotFound(run_id)
    stage = _Stage(*row)
    if stage.lifecycle_stage != LifecycleStage.ACTIVE:
        raise RunNotActive(run_id, stage.lifecycle_stage)
    return stage.experiment_id


def _update(session: Session, run_id: str, changes: Mapping[str, object]) -> None:
    session.connection().execute(update(_RUNS).where(_COLUMNS.run_id == run_id).values(changes))


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


def _to_row(info: RunInfo) -> dict[str, object]:
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


def _to_info(row: Any) -> RunInfo:
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


def _load_runs(session: Session, infos: Sequence[RunInfo]) -> list[Run]:
    """The runs with all that belongs to them: six statements for every thousand, however many there are of each."""
    runs: list[Run] = []
    for start in range(0, len(infos), _IDS_PER_STATEMENT):
        some = infos[start : start + _IDS_PER_STATEMENT]
        ids = [info.run_id for info in some]
        metrics = latest_metrics(session, ids)
        params, tags = _values(session, ParamRow, ids), _values(session, RunTagRow, ids)
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


def _values(session: Session, row: type[ParamRow] | type[RunTagRow], run_ids: list[str]) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    statement = select(row.run_id, row.key, row.value).where(row.run_id.in_(run_ids)).order_by(row.run_id, row.key)
    for run_id, key, value in session.execute(statement):
        values[run_id][key] = value
    return values
