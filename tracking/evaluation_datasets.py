"""Evaluation datasets: named, tagged, in any number of experiments. What is in them: `tracking.evaluation_records`."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Row, Select, Table, delete, exists, select, update
from sqlalchemy.orm import Session

from tracking.access.caller import caller_of
from tracking.access.narrowing import NotGranted, in_sight, may_change
from tracking.entities import EvaluationDataset
from tracking.errors import InvalidParameter, NotFound
from tracking.experiments import get_experiment, parse_experiment_id
from tracking.names import check_key, check_text, is_storable
from tracking.paging import Page, Term, check_page_size
from tracking.schema import EvaluationDatasetExperimentRow, EvaluationDatasetRow, EvaluationDatasetTagRow
from tracking.search import Entity, ValueType, Vocabulary
from tracking.searching import Child, Searchable, search_page
from tracking.upserts import insert_new, upsert

NAME_LENGTH_MAX = 500
TAG_VALUE_LENGTH_MAX = 5_000
# Of experiments, tags and records that one request may name.
LISTED_MAX = 10_000
USER_TAG = "mlflow.user"

_DATASETS = cast(Table, EvaluationDatasetRow.__table__)
_COLUMNS = _DATASETS.c
_IN_EXPERIMENT = EvaluationDatasetExperimentRow
_IDS_PER_STATEMENT = 1_000

_SEARCHABLE = Searchable(
    table=_DATASETS,
    identity=_COLUMNS.dataset_id,
    vocabulary=Vocabulary(
        attributes={
            **dict.fromkeys(("name", "created_by", "last_updated_by"), ValueType.TEXT),
            **dict.fromkeys(("created_time", "last_update_time"), ValueType.NUMBER),
        },
        entities=frozenset({Entity.TAG}),
    ),
    columns={
        "name": _COLUMNS.name,
        "created_by": _COLUMNS.created_by,
        "last_updated_by": _COLUMNS.updated_by,
        "created_time": _COLUMNS.created_ms,
        "last_update_time": _COLUMNS.updated_ms,
    },
    default_order=[
        Term(_COLUMNS.created_ms, ValueType.NUMBER, ascending=False),
        Term(_COLUMNS.dataset_id, ValueType.TEXT, ascending=False),
    ],
    children={Entity.TAG: Child(cast(Table, EvaluationDatasetTagRow.__table__), "dataset_id")},
)


class EvaluationDatasetNotFound(NotFound):
    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"Evaluation dataset with id '{dataset_id[:100]}' not found")


def create_dataset(
    session: Session,
    name: str,
    *,
    now_ms: int,
    tags: Mapping[str, str] | None = None,
    experiment_ids: Sequence[str] = (),
) -> EvaluationDataset:
    """Make an empty dataset. Names may repeat: datasets go by their ids.

    Raises:
        ExperimentNotFound: if one of the experiments isn't there.
        NotGranted: if one of them is others' to change; without any, to all who can't change everything.
    """
    if not name:
        raise InvalidParameter("Missing value for required parameter 'name'")
    tags = tags or {}
    user = tags.get(USER_TAG)
    dataset_id = f"d-{uuid.uuid4().hex}"
    row = {
        "dataset_id": dataset_id,
        "name": check_text(name, "name", NAME_LENGTH_MAX),
        "schema": None,
        "profile": None,
        "digest": digest_of(name, now_ms),
        "created_ms": now_ms,
        "updated_ms": now_ms,
        "created_by": user,
        "updated_by": user,
    }
    checked = _checked_tags(dataset_id, tags)
    insert_new(session, EvaluationDatasetRow, [row])
    upsert(session, EvaluationDatasetTagRow, checked)
    _link(session, dataset_id, experiment_ids)
    _ensure_may_change(session, dataset_id)
    return get_dataset(session, dataset_id)


def get_dataset(session: Session, dataset_id: str) -> EvaluationDataset:
    """The dataset, without its records.

    Raises:
        EvaluationDatasetNotFound: if there is none with this id.
    """
    return _read(session, dataset_id, select(_DATASETS))


def lock_dataset(session: Session, dataset_id: str) -> EvaluationDataset:
    """The dataset, which is this transaction's to change: others who lock it wait.

    Raises:
        EvaluationDatasetNotFound: if there is none with this id.
        NotGranted: if one of its experiments is others' to change.
    """
    dataset = _read(session, dataset_id, select(_DATASETS).with_for_update())
    _ensure_may_change(session, dataset_id)
    return dataset


def delete_dataset(session: Session, dataset_id: str) -> None:
    """Delete a dataset with its records; one that isn't there is no error, as with MLflow."""
    if _is_there(session, dataset_id):
        _ensure_may_change(session, dataset_id)
        session.execute(delete(EvaluationDatasetRow).where(EvaluationDatasetRow.dataset_id == dataset_id))


def search_datasets(
    session: Session,
    *,
    experiment_ids: Sequence[str] = (),
    filter_text: str | None = None,
    order_by: Sequence[str] = (),
    max_results: int = 1_000,
    page_token: str | None = None,
) -> Page[EvaluationDataset]:
    """A page of datasets, newest first unless *order_by* says otherwise; of all experiments if none is named."""
    check_page_size(max_results)
    numbers = [parse_experiment_id(one) for one in _bounded("experiments", experiment_ids)]
    page = search_page(
        session,
        _SEARCHABLE,
        scope=_in_one(session, numbers),
        scope_key=sorted(numbers),
        filter_text=filter_text,
        order_by=order_by,
        max_results=max_results,
        token=page_token,
    )
    return Page(_to_datasets(session, page.items), page.next_page_token)


def set_tags(session: Session, dataset_id: str, tags: Mapping[str, str]) -> EvaluationDataset:
    """Set tags, and leave the others as they are."""
    lock_dataset(session, dataset_id)
    upsert(session, EvaluationDatasetTagRow, _checked_tags(dataset_id, tags))
    return get_dataset(session, dataset_id)


def delete_tag(session: Session, dataset_id: str, key: str) -> None:
    """Take a tag away; one that isn't there is no error, as with MLflow."""
    tag = EvaluationDatasetTagRow
    if _is_there(session, dataset_id) and is_storable(key):
        _ensure_may_change(session, dataset_id)
        session.execute(delete(tag).where(tag.dataset_id == dataset_id, tag.key == key))


def add_to_experiments(
    session: Session, dataset_id: str, experiment_ids: Sequence[str], *, now_ms: int
) -> EvaluationDataset:
    """Let the dataset belong to these experiments too.

    Raises:
        ExperimentNotFound: if one of them isn't there.
        NotGranted: if one of them is others' to change.
    """
    lock_dataset(session, dataset_id)
    _link(session, dataset_id, experiment_ids)
    _ensure_may_change(session, dataset_id)
    change_dataset(session, dataset_id, updated_ms=now_ms)
    return get_dataset(session, dataset_id)


def remove_from_experiments(
    session: Session, dataset_id: str, experiment_ids: Sequence[str], *, now_ms: int
) -> EvaluationDataset:
    """Let the dataset belong to these experiments no longer; those it didn't belong to are no error.

    Raises:
        NotGranted: if it would belong to none, to all who can't change everything.
    """
    lock_dataset(session, dataset_id)
    numbers = [parse_experiment_id(one) for one in _bounded("experiments", experiment_ids)]
    link = _IN_EXPERIMENT
    session.execute(delete(link).where(link.dataset_id == dataset_id, link.experiment_id.in_(numbers)))
    _ensure_may_change(session, dataset_id)
    change_dataset(session, dataset_id, updated_ms=now_ms)
    return get_dataset(session, dataset_id)


def change_dataset(session: Session, dataset_id: str, **values: object) -> None:
    """Set columns of a dataset that the caller has locked; for this package."""
    session.execute(update(EvaluationDatasetRow).where(EvaluationDatasetRow.dataset_id == dataset_id).values(values))


def digest_of(name: str, now_ms: int) -> str:
    """What tells one state of a dataset from another, made as the genuine server makes it."""
    return hashlib.sha256(f"{name}:{now_ms}".encode(errors="replace")).hexdigest()[:8]


def _read(session: Session, dataset_id: str, statement: Select[Any]) -> EvaluationDataset:
    found = statement.where(_COLUMNS.dataset_id == dataset_id, *_in_one(session, []))
    row = session.execute(found).one_or_none() if is_storable(dataset_id) else None
    if row is None:
        raise EvaluationDatasetNotFound(dataset_id)
    return _to_datasets(session, [row])[0]


def _is_there(session: Session, dataset_id: str) -> bool:
    if not is_storable(dataset_id):
        return False
    found = select(_COLUMNS.dataset_id).where(_COLUMNS.dataset_id == dataset_id, *_in_one(session, []))
    return session.scalar(found) is not None


def _in_one(session: Session, numbers: Sequence[int]) -> list[ColumnElement[bool]]:
    """The conditions that a dataset belongs to one of these experiments, or any if none is named, that is seen."""
    link = _IN_EXPERIMENT
    which = [*([link.experiment_id.in_(numbers)] if numbers else []), *in_sight(session, link.experiment_id)]
    return [exists().where(link.dataset_id == _COLUMNS.dataset_id, *which).correlate(_DATASETS)] if which else []


def _ensure_may_change(session: Session, dataset_id: str) -> None:
    """Let a dataset be changed by those who may change all that it belongs to; one that is nobody's takes everything.

    Raises:
        NotGranted: without a word of which experiment it is, as that may be hidden.
    """
    caller, link = caller_of(session), _IN_EXPERIMENT
    if caller.acting.experiments.all:
        return
    numbers = session.scalars(select(link.experiment_id).where(link.dataset_id == dataset_id)).all()
    if not numbers or not may_change(session, numbers):
        raise NotGranted(caller.name, "change an evaluation dataset of other experiments than their own")


def _checked_tags(dataset_id: str, tags: Mapping[str, str]) -> list[dict[str, str]]:
    _bounded("tags", list(tags))
    return [
        {
            "dataset_id": dataset_id,
            "key": check_key(key, "tags.key"),
            "value": check_text(value, "tags.value", TAG_VALUE_LENGTH_MAX),
        }
        for key, value in tags.items()
    ]


def _link(session: Session, dataset_id: str, experiment_ids: Sequence[str]) -> None:
    numbers = {
        int(get_experiment(session, one).experiment_id)
        for one in dict.fromkeys(_bounded("experiments", experiment_ids))
    }
    insert_new(
        session, _IN_EXPERIMENT, [{"dataset_id": dataset_id, "experiment_id": number} for number in sorted(numbers)]
    )


def _bounded(what: str, listed: Sequence[str]) -> Sequence[str]:
    if len(listed) > LISTED_MAX:
        raise InvalidParameter(f"A request can name at most {LISTED_MAX} {what}; got {len(listed)}.")
    return listed


def _to_datasets(session: Session, rows: Sequence[Row[Any]]) -> list[EvaluationDataset]:
    tags: dict[str, dict[str, str]] = {row.dataset_id: {} for row in rows}
    experiments: dict[str, list[str]] = {row.dataset_id: [] for row in rows}
    tag, link = EvaluationDatasetTagRow, _IN_EXPERIMENT
    for some in _slices(list(tags)):
        of_some = select(tag.dataset_id, tag.key, tag.value).where(tag.dataset_id.in_(some)).order_by(tag.key)
        for dataset_id, key, value in session.execute(of_some):
            tags[dataset_id][key] = value
        seen = [link.dataset_id.in_(some), *in_sight(session, link.experiment_id)]
        links = select(link.dataset_id, link.experiment_id).where(*seen)
        for dataset_id, number in session.execute(links.order_by(link.experiment_id)):
            experiments[dataset_id].append(str(number))
    return [
        EvaluationDataset(
            dataset_id=row.dataset_id,
            name=row.name,
            digest=row.digest,
            schema=row.schema,
            profile=row.profile,
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            created_by=row.created_by,
            updated_by=row.updated_by,
            tags=tags[row.dataset_id],
            experiment_ids=tuple(experiments[row.dataset_id]),
        )
        for row in rows
    ]


def _slices(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _IDS_PER_STATEMENT] for start in range(0, len(ids), _IDS_PER_STATEMENT))
