"""Runs by what was logged to them: filters, orders and pages."""

from collections.abc import Sequence
from typing import cast

from sqlalchemy import ColumnElement, String, Table, exists
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from tracking.access.narrowing import in_sight
from tracking.entities import Run, ViewType
from tracking.errors import InvalidParameter
from tracking.experiments import ExperimentNotFound, parse_experiment_id
from tracking.filters import compares
from tracking.paging import Page, Term, check_page_size
from tracking.run_rows import RUNS, load_runs, row_to_info
from tracking.schema import DatasetInputRow, DatasetRow, LatestMetricRow, ParamRow, RunTagRow
from tracking.search import Comparison, Entity, ValueType, Vocabulary
from tracking.searching import Child, Searchable, search_page

SEARCH_PAGE_SIZE_MAX = 50_000
# A statement of SQLite has at most 32,766 parameters.
EXPERIMENTS_MAX = 20_000


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
    """A page of runs, newest first unless *order_by* says otherwise.

    Experiments that don't exist have none, and neither have those that the caller doesn't see.
    """
    check_page_size(max_results, SEARCH_PAGE_SIZE_MAX)
    page = search_page(
        session,
        _SEARCHABLE,
        scope=[_in_stages(view), *in_sight(session, _COLUMNS.experiment_id)],
        within=_known_numbers(experiment_ids),
        scope_key=(sorted(experiment_ids), view),
        filter_text=filter_text,
        order_by=order_by,
        max_results=max_results,
        token=page_token,
    )
    return Page(load_runs(session, [row_to_info(row) for row in page.items]), page.next_page_token)


def _in_stages(view: ViewType) -> ColumnElement[bool]:
    # One value as an equation: the listing's index then gives the order by itself, which an IN would hide.
    stages = view.stages
    return _COLUMNS.lifecycle_stage == stages[0] if len(stages) == 1 else _COLUMNS.lifecycle_stage.in_(stages)


def _known_numbers(experiment_ids: Sequence[str]) -> list[int]:
    if len(experiment_ids) > EXPERIMENTS_MAX:
        raise InvalidParameter(f"A search is within at most {EXPERIMENTS_MAX} experiments; got {len(experiment_ids)}.")
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
        .correlate(RUNS)
    )


_COLUMNS = RUNS.c
_SEARCHABLE = Searchable(
    table=RUNS,
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
        Entity.METRIC: Child(cast(Table, LatestMetricRow.__table__), "run_id", has_nan=True, has_partition=True),
        Entity.PARAM: Child(cast(Table, ParamRow.__table__), "run_id", has_head=True),
        Entity.TAG: Child(cast(Table, RunTagRow.__table__), "run_id", has_head=True),
    },
    partition="experiment_id",
    dataset_condition=_dataset_condition,
)
