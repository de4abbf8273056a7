"""Experiments: named folders of runs. A deleted one keeps its name and can come back with its runs."""

from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, Row, String, Table, bindparam, delete, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tracking.access.narrowing import ensure_may_change, ensure_may_name, ensure_unrestricted, in_sight, narrowed
from tracking.entities import Experiment, LifecycleStage, ViewType
from tracking.errors import AlreadyExists, InvalidParameter, NotFound
from tracking.names import EXPERIMENT_TAG_LENGTH_MAX, check_experiment_name, check_key, check_text, is_storable
from tracking.paging import Page, Term, check_page_size
from tracking.schema import ExperimentRow, ExperimentTagRow, RunRow
from tracking.search import Entity, ValueType, Vocabulary
from tracking.searching import Child, Searchable, search_page
from tracking.upserts import insert_new, upsert

DEFAULT_EXPERIMENT_ID = "0"
DEFAULT_ARTIFACT_ROOT = "mlflow-artifacts:/"

# What one IN of a page's ids may hold; SQLite bounds the parameters of a statement.
_IDS_PER_STATEMENT = 1_000

_EXPERIMENTS = cast(Table, ExperimentRow.__table__)
_COLUMNS = _EXPERIMENTS.c
_SEARCHABLE = Searchable(
    table=_EXPERIMENTS,
    identity=_COLUMNS.experiment_id,
    vocabulary=Vocabulary(
        attributes={
            "experiment_id": ValueType.TEXT,
            "name": ValueType.TEXT,
            "creation_time": ValueType.NUMBER,
            "last_update_time": ValueType.NUMBER,
        },
        entities=frozenset({Entity.TAG}),
    ),
    columns={
        "experiment_id": sql_cast(_COLUMNS.experiment_id, String),
        "name": _COLUMNS.name,
        "creation_time": _COLUMNS.created_ms,
        "last_update_time": _COLUMNS.updated_ms,
    },
    default_order=[
        Term(_COLUMNS.created_ms, ValueType.NUMBER, ascending=False),
        Term(_COLUMNS.experiment_id, ValueType.NUMBER),
    ],
    children={Entity.TAG: Child(cast(Table, ExperimentTagRow.__table__), "experiment_id")},
)


class HeldExperiment(NamedTuple):
    """What those who add to an experiment need of it."""

    experiment_id: str
    artifact_location: str


class ExperimentNotFound(NotFound):
    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"No Experiment with id={experiment_id[:100]} exists")


class ExperimentNameNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"Could not find experiment with name {name[:500]!r}")


class ExperimentAlreadyExists(AlreadyExists):
    """The name is taken, perhaps by a deleted experiment."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Experiment(name={name}) already exists. A deleted experiment keeps its name: restore it.")


class ExperimentNotActive(InvalidParameter):
    def __init__(self, experiment_id: str, stage: str) -> None:
        super().__init__(f"The experiment {experiment_id} must be in the 'active' state. Current state is {stage}.")


class ExperimentTagNotFound(NotFound):
    def __init__(self, experiment_id: str, key: str) -> None:
        super().__init__(f"No tag with name: {key[:250]} in experiment with id {experiment_id}")


def ensure_default_experiment(session: Session, artifact_root: str = DEFAULT_ARTIFACT_ROOT, *, now_ms: int) -> None:
    """Have experiment "Default" with id 0, which clients log to unless told otherwise; safe to call at every start."""
    row = {
        "experiment_id": int(DEFAULT_EXPERIMENT_ID),
        "name": "Default",
        "artifact_location": default_artifact_location(artifact_root, DEFAULT_EXPERIMENT_ID),
        "lifecycle_stage": LifecycleStage.ACTIVE,
        "created_ms": now_ms,
        "updated_ms": now_ms,
    }
    insert_new(session, ExperimentRow, [row])


def create_experiment(
    session: Session,
    name: str,
    *,
    now_ms: int,
    artifact_root: str = DEFAULT_ARTIFACT_ROOT,
    artifact_location: str | None = None,
    tags: dict[str, str] | None = None,
) -> str:
    """Create experiment *name* and return its id. Its artifacts go under *artifact_root* unless it has its own place.

    Raises:
        ExperimentAlreadyExists: if the name is taken, by a deleted experiment too.
        NotGranted: if the caller's grants don't reach to it.
    """
    check_experiment_name(name)
    ensure_may_name(session, name)
    if artifact_location:
        # It could be somebody else's.
        ensure_unrestricted(session, "say where an experiment keeps its artifacts")
    location = _checked_location(artifact_location) if artifact_location else ""
    row = ExperimentRow(
        name=name,
        artifact_location=location,
        lifecycle_stage=LifecycleStage.ACTIVE,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        # The name is all that can collide. Asking beforehand would leave a gap for somebody else to create it in.
        raise ExperimentAlreadyExists(name) from error
    experiment_id = str(row.experiment_id)
    # Only now is the number known that the default location is named after.
    row.artifact_location = location or default_artifact_location(artifact_root, experiment_id)
    session.flush()
    _write_tags(session, row.experiment_id, tags or {})
    return experiment_id


def default_artifact_location(artifact_root: str, experiment_id: str) -> str:
    return f"{artifact_root.rstrip('/')}/{experiment_id}"


def get_experiment(session: Session, experiment_id: str) -> Experiment:
    """The experiment, deleted or not.

    Raises:
        ExperimentNotFound: if there is none with this id.
        InvalidParameter: if *experiment_id* isn't a number.
    """
    statement = narrowed(session, _BY_ID, _COLUMNS.experiment_id)
    row = session.connection().execute(statement, {"id": parse_experiment_id(experiment_id)}).first()
    if row is None:
        raise ExperimentNotFound(experiment_id)
    return _to_experiments(session, [row])[0]


# Built once, as every new run asks: building a statement takes longer than running it.
_BY_ID = select(_EXPERIMENTS).where(_COLUMNS.experiment_id == bindparam("id"))
_HELD = (
    select(_COLUMNS.artifact_location, _COLUMNS.lifecycle_stage)
    .where(_COLUMNS.experiment_id == bindparam("id"))
    .with_for_update(read=True)
)
_TAGS = (
    select(ExperimentTagRow.experiment_id, ExperimentTagRow.key, ExperimentTagRow.value)
    .where(ExperimentTagRow.experiment_id.in_(bindparam("ids", expanding=True)))
    .order_by(ExperimentTagRow.key)
)


def get_experiment_by_name(session: Session, name: str) -> Experiment:
    """The experiment with this name, deleted or not.

    Raises:
        ExperimentNameNotFound: if there is none.
    """
    row = None
    if is_storable(name):
        by_name = select(_EXPERIMENTS).where(_COLUMNS.name == name)
        row = session.execute(narrowed(session, by_name, _COLUMNS.experiment_id)).one_or_none()
    if row is None:
        raise ExperimentNameNotFound(name)
    return _to_experiments(session, [row])[0]


def require_active_experiment(session: Session, experiment_id: str) -> Experiment:
    """The experiment, if it may be changed.

    Raises:
        ExperimentNotFound: if there is none with this id.
        NotGranted: if it is others' to change.
        ExperimentNotActive: if it is deleted.
    """
    experiment = get_experiment(session, experiment_id)
    ensure_may_change(session, int(experiment.experiment_id))
    _ensure_active(experiment.experiment_id, experiment.lifecycle_stage)
    return experiment


def hold_active_experiment(session: Session, experiment_id: str) -> HeldExperiment:
    """The experiment, if things may be added to it; nobody can delete it before this transaction ends.

    Raises:
        ExperimentNotFound: if there is none with this id.
        NotGranted: if it is others' to change.
        ExperimentNotActive: if it is deleted.
    """
    # A lock that many may share: those who add runs don't wait for each other, only who deletes waits for them all,
    # and so meets every run.
    number = parse_experiment_id(experiment_id)
    row = session.connection().execute(narrowed(session, _HELD, _COLUMNS.experiment_id), {"id": number}).first()
    if row is None:
        raise ExperimentNotFound(experiment_id)
    ensure_may_change(session, number)
    location, stage = row
    _ensure_active(experiment_id, LifecycleStage(stage))
    return HeldExperiment(str(number), location)


def _ensure_active(experiment_id: str, stage: LifecycleStage) -> None:
    if stage is not LifecycleStage.ACTIVE:
        raise ExperimentNotActive(experiment_id, stage)


def search_experiments(
    session: Session,
    *,
    view: ViewType = ViewType.ACTIVE_ONLY,
    filter_text: str | None = None,
    order_by: list[str] | None = None,
    max_results: int = 1_000,
    page_token: str | None = None,
) -> Page[Experiment]:
    """A page of experiments, newest first unless *order_by* says otherwise."""
    check_page_size(max_results)
    page = search_page(
        session,
        _SEARCHABLE,
        scope=[_COLUMNS.lifecycle_stage.in_(view.stages), *in_sight(session, _COLUMNS.experiment_id)],
        scope_key=view,
        filter_text=filter_text,
        order_by=order_by or [],
        max_results=max_results,
        token=page_token,
    )
    return Page(_to_experiments(session, page.items), page.next_page_token)


def rename_experiment(session: Session, experiment_id: str, new_name: str, *, now_ms: int) -> None:
    """Give an active experiment another name.

    Raises:
        ExperimentAlreadyExists: if the name is taken.
        NotGranted: if the caller's grants don't reach to the experiment, or to its new name.
    """
    check_experiment_name(new_name, "new_name")
    require_active_experiment(session, experiment_id)
    ensure_may_name(session, new_name)
    try:
        with session.begin_nested():
            _update(session, experiment_id, name=new_name, updated_ms=now_ms)
    except IntegrityError as error:
        raise ExperimentAlreadyExists(new_name) from error


def delete_experiment(session: Session, experiment_id: str, *, now_ms: int) -> None:
    """Mark an active experiment and all its runs as deleted."""
    _require_stage(session, experiment_id, LifecycleStage.ACTIVE)
    _update(session, experiment_id, lifecycle_stage=LifecycleStage.DELETED, updated_ms=now_ms)
    _mark_runs(session, experiment_id, lifecycle_stage=LifecycleStage.DELETED, deleted_ms=now_ms)


def restore_experiment(session: Session, experiment_id: str, *, now_ms: int) -> None:
    """Bring a deleted experiment back, and all its runs with it."""
    _require_stage(session, experiment_id, LifecycleStage.DELETED)
    _update(session, experiment_id, lifecycle_stage=LifecycleStage.ACTIVE, updated_ms=now_ms)
    _mark_runs(session, experiment_id, lifecycle_stage=LifecycleStage.ACTIVE, deleted_ms=None)


def set_experiment_tag(session: Session, experiment_id: str, key: str, value: str) -> None:
    require_active_experiment(session, experiment_id)
    _write_tags(session, parse_experiment_id(experiment_id), {key: value})


def delete_experiment_tag(session: Session, experiment_id: str, key: str) -> None:
    """Remove a tag.

    Raises:
        ExperimentTagNotFound: if the experiment doesn't have it.
    """
    require_active_experiment(session, experiment_id)
    check_key(key, "key")
    deleted: CursorResult[Any] = session.connection().execute(
        delete(ExperimentTagRow).where(
            ExperimentTagRow.experiment_id == parse_experiment_id(experiment_id), ExperimentTagRow.key == key
        )
    )
    if not deleted.rowcount:
        raise ExperimentTagNotFound(experiment_id, key)


def parse_experiment_id(experiment_id: str) -> int:
    """The number that *experiment_id* writes.

    Raises:
        InvalidParameter: if it isn't one.
        ExperimentNotFound: if it is one that no experiment can have.
    """
    if not (experiment_id.isascii() and experiment_id.isdigit()):
        raise InvalidParameter(f"Invalid experiment ID {experiment_id[:100]!r}. Experiment ID must be a valid integer.")
    if len(experiment_id) > 18:
        raise ExperimentNotFound(experiment_id)
    return int(experiment_id)


def _checked_location(uri: str) -> str:
    check_text(uri, "artifact_location", 1_000)
    if any(sign in uri for sign in "?#%\\") or ".." in uri.split("/"):
        raise InvalidParameter(f"Invalid artifact_location {uri[:200]!r}: it can't have '..', '?', '#', '%' or '\\'.")
    return uri.rstrip("/") or uri


def _require_stage(session: Session, experiment_id: str, stage: LifecycleStage) -> None:
    experiment = get_experiment(session, experiment_id)
    ensure_may_change(session, int(experiment.experiment_id))
    # One that is in the other stage counts as missing, as for the genuine server.
    if experiment.lifecycle_stage is not stage:
        raise ExperimentNotFound(experiment_id)


def _update(session: Session, experiment_id: str, **values: object) -> None:
    number = parse_experiment_id(experiment_id)
    session.connection().execute(update(ExperimentRow).where(ExperimentRow.experiment_id == number).values(values))


def _mark_runs(session: Session, experiment_id: str, **values: object) -> None:
    number = parse_experiment_id(experiment_id)
    session.connection().execute(update(RunRow).where(RunRow.experiment_id == number).values(values))


def _write_tags(session: Session, experiment_id: int, tags: dict[str, str]) -> None:
    rows = [
        {
            "experiment_id": experiment_id,
            "key": check_key(key, "key"),
            "value": check_text(value, "value", EXPERIMENT_TAG_LENGTH_MAX),
        }
        for key, value in tags.items()
    ]
    upsert(session, ExperimentTagRow, rows)


def _to_experiments(session: Session, rows: list[Row[Any]]) -> list[Experiment]:
    tags: dict[int, dict[str, str]] = {row.experiment_id: {} for row in rows}
    ids = list(tags)
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        some = {"ids": ids[start : start + _IDS_PER_STATEMENT]}
        for experiment_id, key, value in session.connection().execute(_TAGS, some):
            tags[experiment_id][key] = value
    return [
        Experiment(
            experiment_id=str(row.experiment_id),
            name=row.name,
            artifact_location=row.artifact_location,
            lifecycle_stage=LifecycleStage(row.lifecycle_stage),
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            tags=tags[row.experiment_id],
        )
        for row in rows
    ]
