"""Logged models: folders of artifacts that runs made, with params, tags and metrics of their own.

What the registry registers as ``models:/m-…`` is one of these.
"""

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
from sqlalchemy import ColumnElement, CursorResult, String, Table, and_, case, delete, exists, or_, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from tracking.access.caller import caller_of
from tracking.access.narrowing import ensure_may_change, in_sight, narrowed, runs_in_sight
from tracking.entities import LifecycleStage, LoggedModel, LoggedModelStatus, Metric
from tracking.errors import InvalidParameter, NotFound
from tracking.experiments import hold_active_experiment, parse_experiment_id
from tracking.filters import compares
from tracking.friendly_names import friendly_name
from tracking.names import (
    PARAM_LENGTH_MAX,
    RUN_TAG_LENGTH_MAX,
    check_key,
    check_logged_model_name,
    check_text,
    is_storable,
)
from tracking.paging import Page, Term, Turn, check_page_size, read_page
from tracking.schema import LoggedModelMetricRow, LoggedModelParamRow, LoggedModelRow, LoggedModelTagRow
from tracking.search import (
    COMPARISONS_MAX,
    ORDERINGS_MAX,
    Comparator,
    Comparison,
    Entity,
    ValueType,
    Vocabulary,
    parse_field,
    parse_filter,
)
from tracking.upserts import insert_new, upsert

# mlflow/utils/mlflow_tags.py: the versions that were made from a model, as a JSON list.
VERSIONS_TAG = "mlflow.modelVersions"

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
# Of anything that a request may name many of; below what one statement can hold.
LISTED_MAX = 10_000


class LoggedModelNotFound(NotFound):
    def __init__(self, model_id: str) -> None:
        super().__init__(f"Logged model with ID '{model_id[:256]}' not found.")


class LoggedModelTagNotFound(NotFound):
    def __init__(self, model_id: str, key: str) -> None:
        super().__init__(f"No tag with key {key[:250]!r} found for model with ID {model_id!r}.")


class LoggedModelParamChanged(InvalidParameter):
    def __init__(self, model_id: str, key: str, known: str, given: str) -> None:
        super().__init__(
            f"Changing param values is not allowed. Param with key={key!r} was already logged with value={known!r} "
            f"for model ID={model_id!r}. Attempted logging new value {given!r}."
        )


class _Seen(NamedTuple):
    """Conditions on what belongs to a logged model and may be of others: none for whoever sees everything."""

    points: Sequence[ColumnElement[bool]]
    """What runs of hidden experiments logged about it is theirs."""
    tags: Sequence[ColumnElement[bool]]
    """Where it is registered may be hidden; `_shown_tags` has that in parts."""


class DatasetFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that a model's metrics were measured on."""

    name: str
    digest: str | None = None


class ModelOrdering(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an order of logged models: an attribute, or a metric, on a dataset if one is named."""

    field: str
    ascending: bool = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


def create_logged_model(
    session: Session,
    experiment_id: str,
    *,
    now_ms: int,
    name: str | None = None,
    model_type: str | None = None,
    source_run_id: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> LoggedModel:
    """Begin a logged model; its files are to come, and it is PENDING until `finalize_logged_model` says otherwise.

    Raises:
        ExperimentNotFound: if there is no such experiment.
        ExperimentNotActive: if it is deleted.
    """
    experiment = hold_active_experiment(session, experiment_id)
    model_id = f"m-{uuid.uuid4().hex}"
    row = {
        "model_id": model_id,
        "experiment_id": int(experiment.experiment_id),
        "name": friendly_name(model_id) if name is None else check_logged_model_name(name),
        "model_type": check_text(model_type, "model_type", 500) if model_type else None,
        "source_run_id": check_text(source_run_id, "source_run_id", 256) if source_run_id else None,
        "artifact_uri": f"{experiment.artifact_location}/models/{model_id}/artifacts",
        "status": LoggedModelStatus.PENDING,
        "status_message": None,
        "lifecycle_stage": LifecycleStage.ACTIVE,
        "created_ms": now_ms,
        "updated_ms": now_ms,
    }
    insert_new(session, LoggedModelRow, [row])
    _write_params(session, model_id, params or {})
    _upsert_tags(session, model_id, tags or {})
    return get_logged_model(session, model_id)


def get_logged_model(session: Session, model_id: str, *, allow_deleted: bool = False) -> LoggedModel:
    """The logged model with all that belongs to it.

    Raises:
        LoggedModelNotFound: if there is none with this id, or it is deleted and that isn't allowed.
    """
    by_id = select(_MODELS).where(_COLUMNS.model_id == model_id)
    statement = narrowed(session, by_id, _COLUMNS.experiment_id)
    row = session.execute(statement).one_or_none() if is_storable(model_id) else None
    if row is None or (row.lifecycle_stage == LifecycleStage.DELETED and not allow_deleted):
        raise LoggedModelNotFound(model_id)
    return _load(session, [row])[0]


def source_run_of(session: Session, model_id: str) -> str | None:
    """The run that made a logged model, of which it is known already that the caller sees it."""
    return session.scalar(select(_COLUMNS.source_run_id).where(_COLUMNS.model_id == model_id))


def require_changeable_model(session: Session, model_id: str) -> LoggedModel:
    """The logged model, if the caller may change it.

    Raises:
        LoggedModelNotFound: if there is none with this id, or it is deleted.
        NotGranted: if it is others' to change.
    """
    model = get_logged_model(session, model_id)
    ensure_may_change(session, int(model.experiment_id))
    return model


def ensure_linkable(session: Session, model_ids: Sequence[str]) -> None:
    """Let runs name only logged models that the caller sees; who sees everything may name those of another server.

    Raises:
        LoggedModelNotFound: for one that is hidden, or nowhere.
    """
    conditions = in_sight(session, _COLUMNS.experiment_id)
    if not conditions:
        return
    seen = set(session.scalars(select(_COLUMNS.model_id).where(_COLUMNS.model_id.in_(model_ids), *conditions)))
    for model_id in model_ids:
        if model_id not in seen:
            raise LoggedModelNotFound(model_id)


def finalize_logged_model(session: Session, model_id: str, status: LoggedModelStatus, *, now_ms: int) -> LoggedModel:
    """Say how the upload of a model's files ended, and return the model as it is then."""
    require_changeable_model(session, model_id)
    _update(session, model_id, status=status, updated_ms=now_ms)
    return get_logged_model(session, model_id)


def delete_logged_model(session: Session, model_id: str, *, now_ms: int) -> None:
    """Mark a logged model as deleted; its files stay."""
    require_changeable_model(session, model_id)
    _update(session, model_id, lifecycle_stage=LifecycleStage.DELETED, updated_ms=now_ms)


def log_model_params(session: Session, model_id: str, params: Mapping[str, str]) -> None:
    """Set params of a logged model; each has one value for good.

    Raises:
        LoggedModelParamChanged: if one has another value already.
    """
    require_changeable_model(session, model_id)
    _write_params(session, model_id, params)


def set_model_tags(session: Session, model_id: str, tags: Mapping[str, str], *, now_ms: int) -> LoggedModel:
    """Set tags of a logged model, and return the model as it is then."""
    require_changeable_model(session, model_id)
    _upsert_tags(session, model_id, tags)
    _update(session, model_id, updated_ms=now_ms)
    return get_logged_model(session, model_id)


def note_version(session: Session, model_id: str, name: str, version: int) -> None:
    """Say in the model's tag ``mlflow.modelVersions`` that it was registered; once is enough.

    A tag that somebody overwrote with something else stays as it is, and so does one without room: the note is a
    convenience of MLflow's pages, and no reason not to register a version.
    """
    # Locked, because the list is read, and written back longer.
    session.execute(select(_COLUMNS.model_id).where(_COLUMNS.model_id == model_id).with_for_update())
    tag = LoggedModelTagRow
    known = session.scalar(select(tag.value).where(tag.model_id == model_id, tag.key == VERSIONS_TAG))
    noted, entry = _read_versions(known), {"name": name, "version": version}
    if noted is None or entry in noted:
        return
    value = json.dumps([*noted, entry])
    if len(value) <= RUN_TAG_LENGTH_MAX:
        _upsert_tags(session, model_id, {VERSIONS_TAG: value})


def _read_versions(text: str | None) -> list[object] | None:
    try:
        noted = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return None
    return noted if isinstance(noted, list) else None


def delete_model_tag(session: Session, model_id: str, key: str, *, now_ms: int) -> None:
    """Remove a tag of a logged model.

    Raises:
        LoggedModelTagNotFound: if it doesn't have it.
    """
    require_changeable_model(session, model_id)
    tag = LoggedModelTagRow
    deleted: CursorResult[Any] | None = None
    if is_storable(key):
        deleted = session.connection().execute(delete(tag).where(tag.model_id == model_id, tag.key == key))
    if not deleted or not deleted.rowcount:
        raise LoggedModelTagNotFound(model_id, key)
    _update(session, model_id, updated_ms=now_ms)


def search_logged_models(
    session: Session,
    experiment_ids: Sequence[str],
    *,
    filter_text: str | None = None,
    datasets: Sequence[DatasetFilter] = (),
    order_by: Sequence[ModelOrdering] = (),
    max_results: int = PAGE_SIZE_DEFAULT,
    page_token: str | None = None,
) -> Page[LoggedModel]:
    """A page of logged models, newest first unless *order_by* says otherwise.

    With *datasets*, metric conditions look only at what was measured on them, and models without such are left out.
    """
    check_page_size(max_results, PAGE_SIZE_MAX)
    _check_listed("experiments", experiment_ids, LISTED_MAX)
    _check_listed("datasets", datasets, COMPARISONS_MAX)
    _check_listed("order_by fields", order_by, ORDERINGS_MAX)
    _check_dataset_names(datasets, order_by)
    comparisons = parse_filter(filter_text, _VOCABULARY)
    seen = _seen(session)
    conditions = [
        _COLUMNS.experiment_id.in_([parse_experiment_id(one) for one in experiment_ids]),
        *in_sight(session, _COLUMNS.experiment_id),
        _COLUMNS.lifecycle_stage == LifecycleStage.ACTIVE,
        *(_condition(one, datasets, seen) for one in comparisons),
    ]
    if datasets and not any(one.field.entity is Entity.METRIC for one in comparisons):
        conditions.append(_measured(seen.points, datasets))
    page = read_page(
        session,
        list(_COLUMNS),
        [Turn(_MODELS, conditions, _order(order_by, seen.points))],
        search_key=(sorted(experiment_ids), filter_text or "", list(datasets), list(order_by)),
        max_results=max_results,
        token=page_token,
    )
    return Page(_load(session, page.items), page.next_page_token)


def _check_listed(what: str, listed: Sequence[object] | Mapping[str, str], at_most: int) -> None:
    if len(listed) > at_most:
        raise InvalidParameter(f"A request can name at most {at_most} {what}; got {len(listed)}.")


def _check_dataset_names(datasets: Sequence[DatasetFilter], order_by: Sequence[ModelOrdering]) -> None:
    named = [(one.name, one.digest) for one in datasets]
    named += [(one.dataset_name or "", one.dataset_digest) for one in order_by]
    for name, digest in named:
        check_text(name, "dataset_name", 500)
        check_text(digest or "", "dataset_digest", 36)


_MODELS = cast(Table, LoggedModelRow.__table__)
_COLUMNS = _MODELS.c
_METRICS = cast(Table, LoggedModelMetricRow.__table__)
_VALUES: Mapping[Entity, Table] = {
    Entity.PARAM: cast(Table, LoggedModelParamRow.__table__),
    Entity.TAG: cast(Table, LoggedModelTagRow.__table__),
}
_ATTRIBUTES: Mapping[str, ColumnElement[Any]] = {
    "model_id": _COLUMNS.model_id,
    "name": _COLUMNS.name,
    "model_type": _COLUMNS.model_type,
    "status": _COLUMNS.status,
    "source_run_id": _COLUMNS.source_run_id,
    "experiment_id": sql_cast(_COLUMNS.experiment_id, String),
    "creation_timestamp_ms": _COLUMNS.created_ms,
    "last_updated_timestamp_ms": _COLUMNS.updated_ms,
}
_VOCABULARY = Vocabulary(
    attributes={name: ValueType.NUMBER if name.endswith("_ms") else ValueType.TEXT for name in _ATTRIBUTES},
    aliases={
        "creation_time": "creation_timestamp_ms",
        "creation_timestamp": "creation_timestamp_ms",
        "last_updated_timestamp": "last_updated_timestamp_ms",
    },
    entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG}),
)


def _seen(session: Session) -> _Seen:
    sees_models = caller_of(session).reading.models.all
    return _Seen(
        points=runs_in_sight(session, _METRICS.c.run_id),
        tags=[] if sees_models else [_VALUES[Entity.TAG].c.key != VERSIONS_TAG],
    )


def _condition(comparison: Comparison, datasets: Sequence[DatasetFilter], seen: _Seen) -> ColumnElement[bool]:
    field = comparison.field
    if field.entity is Entity.ATTRIBUTE:
        return compares(_ATTRIBUTES[field.key], comparison)
    if field.entity is Entity.METRIC:
        points = _METRICS.c
        meets = [points.key == field.key, points.is_nan.is_(False), compares(points.value, comparison)]
        return _measured([*meets, *seen.points], datasets)
    values = _VALUES[field.entity].c
    owned = [values.model_id == _COLUMNS.model_id, values.key == field.key]
    owned += seen.tags if field.entity is Entity.TAG else []
    if comparison.value is None:
        has_it = exists().where(*owned).correlate(_MODELS)
        return ~has_it if comparison.comparator is Comparator.IS_NULL else has_it
    return exists().where(*owned, compares(values.value, comparison)).correlate(_MODELS)


def _measured(conditions: Sequence[ColumnElement[bool]], datasets: Sequence[DatasetFilter]) -> ColumnElement[bool]:
    """That the model has a point which meets *conditions*, on one of *datasets* if any are named."""
    points = _METRICS.c
    on_one = [
        and_(
            points.dataset_name == dataset.name,
            *([points.dataset_digest == dataset.digest] if dataset.digest else []),
        )
        for dataset in datasets
    ]
    somewhere = [or_(*on_one)] if on_one else []
    return exists().where(points.model_id == _COLUMNS.model_id, *conditions, *somewhere).correlate(_MODELS)


def _order(orderings: Sequence[ModelOrdering], seen_points: Sequence[ColumnElement[bool]]) -> list[Term]:
    terms: list[Term] = []
    for ordering in orderings:
        terms += _terms(ordering, seen_points)
    return [
        *terms,
        Term(_COLUMNS.created_ms, ValueType.NUMBER, ascending=False),
        Term(_COLUMNS.model_id, ValueType.TEXT),
    ]


def _terms(ordering: ModelOrdering, seen_points: Sequence[ColumnElement[bool]]) -> list[Term]:
    field = parse_field(ordering.field, _VOCABULARY)
    match field.entity:
        case Entity.METRIC:
            value = _latest_value(field.key, ordering, seen_points)
        case Entity.ATTRIBUTE:
            value = _ATTRIBUTES[field.key]
        case _:
            raise InvalidParameter(
                f"Invalid order by field name: {ordering.field[:250]}. Only attributes and metrics are supported."
            )
    # What has no value comes last, whichever way the order goes.
    return [
        Term(case((value.is_(None), 1), else_=0), ValueType.NUMBER),
        Term(value, field.type, ordering.ascending),
    ]


def _latest_value(key: str, ordering: ModelOrdering, seen_points: Sequence[ColumnElement[bool]]) -> ColumnElement[Any]:
    """A model's newest value of a metric, on the ordering's dataset if it names one; NULL for NaN and for none."""
    points = _METRICS.c
    on_dataset = [
        column == wanted
        for column, wanted in (
            (points.dataset_name, ordering.dataset_name),
            (points.dataset_digest, ordering.dataset_digest),
        )
        if wanted
    ]
    return (
        select(case((points.is_nan.is_(False), points.value)))
        .where(points.model_id == _COLUMNS.model_id, points.key == key, *on_dataset, *seen_points)
        .order_by(points.timestamp_ms.desc(), points.step.desc(), points.run_id)
        .limit(1)
        .correlate(_MODELS)
        .scalar_subquery()
    )


def _update(session: Session, model_id: str, **values: object) -> None:
    session.connection().execute(update(_MODELS).where(_COLUMNS.model_id == model_id).values(values))


def _write_params(session: Session, model_id: str, params: Mapping[str, str]) -> None:
    _check_listed("params", params, LISTED_MAX)
    checked = {
        check_key(key, "params.key"): check_text(value, "params.value", PARAM_LENGTH_MAX)
        for key, value in params.items()
    }
    row = LoggedModelParamRow
    insert_new(session, row, [{"model_id": model_id, "key": key, "value": value} for key, value in checked.items()])
    statement = select(row.key, row.value).where(row.model_id == model_id, row.key.in_(list(checked)))
    for key, known in session.execute(statement):
        if known != checked[key]:
            raise LoggedModelParamChanged(model_id, key, known, checked[key])


def _upsert_tags(session: Session, model_id: str, tags: Mapping[str, str]) -> None:
    rows = [
        {
            "model_id": model_id,
            "key": check_key(key, "tags.key"),
            "value": check_text(value, "tags.value", RUN_TAG_LENGTH_MAX),
        }
        for key, value in tags.items()
    ]
    upsert(session, LoggedModelTagRow, rows)


def _load(session: Session, rows: Sequence[Any]) -> list[LoggedModel]:
    ids = [row.model_id for row in rows]
    params, tags = _values_of(session, LoggedModelParamRow, ids), _values_of(session, LoggedModelTagRow, ids)
    metrics = _metrics_of(session, ids)
    return [
        LoggedModel(
            model_id=row.model_id,
            experiment_id=str(row.experiment_id),
            name=row.name,
            model_type=row.model_type,
            source_run_id=row.source_run_id,
            artifact_uri=row.artifact_uri,
            status=LoggedModelStatus(row.status),
            status_message=row.status_message,
            lifecycle_stage=LifecycleStage(row.lifecycle_stage),
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            params=params[row.model_id],
            tags=_shown_tags(session, tags[row.model_id]),
            metrics=tuple(metrics[row.model_id]),
        )
        for row in rows
    ]


def _shown_tags(session: Session, tags: dict[str, str]) -> dict[str, str]:
    """*tags*, where that of the versions names those alone whose model the caller sees."""
    names = caller_of(session).reading.models
    if names.all or VERSIONS_TAG not in tags:
        return tags
    noted = _read_versions(tags[VERSIONS_TAG]) or []
    shown = [entry for entry in noted if isinstance(entry, dict) and str(entry.get("name")) in names]
    return {key: value for key, value in tags.items() if key != VERSIONS_TAG} | (
        {VERSIONS_TAG: json.dumps(shown)} if shown else {}
    )


def _values_of(
    session: Session, row: type[LoggedModelParamRow] | type[LoggedModelTagRow], model_ids: list[str]
) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = {model_id: {} for model_id in model_ids}
    statement = select(row.model_id, row.key, row.value).where(row.model_id.in_(model_ids))
    for model_id, key, value in session.execute(statement.order_by(row.model_id, row.key)):
        values[model_id][key] = value
    return values


def _metrics_of(session: Session, model_ids: list[str]) -> dict[str, list[Metric]]:
    metrics: dict[str, list[Metric]] = {model_id: [] for model_id in model_ids}
    points = _METRICS.c
    in_order = (points.model_id, points.key, points.timestamp_ms, points.step, points.run_id)
    of_models = [points.model_id.in_(model_ids), *_seen(session).points]
    for row in session.execute(select(_METRICS).where(*of_models).order_by(*in_order)):
        point = Metric(
            key=row.key,
            value=math.nan if row.is_nan else row.value,
            timestamp_ms=row.timestamp_ms,
            step=row.step,
            model_id=row.model_id,
            dataset_name=row.dataset_name or None,
            dataset_digest=row.dataset_digest or None,
            run_id=row.run_id,
        )
        metrics[row.model_id].append(point)
    return metrics
