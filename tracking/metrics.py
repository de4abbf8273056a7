"""Points of metrics: the whole history of a run, and the latest point of each metric, which searches look at.

The latest point is the greatest by (step, timestamp, value), whoever wrote last: concurrent writers agree on it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Insert, Row, Table, bindparam, func, or_, select, tuple_
from sqlalchemy.orm import Session

from tracking.access.narrowing import ensure_may_change, narrowed, seen_runs
from tracking.among import among
from tracking.entities import Metric
from tracking.errors import InvalidParameter, NotFound
from tracking.names import check_key, check_text, is_storable
from tracking.paging import Page, Term, Turn, check_page_size, read_page
from tracking.schema import Base, LatestMetricRow, LoggedModelMetricRow, LoggedModelRow, MetricRow
from tracking.search import ValueType
from tracking.upserts import DialectInsert, insert_new, upsert_by

HISTORY_PAGE_SIZE_MAX = 25_000
_LARGEST = 1.7976931348623157e308

_POINTS = cast(Table, MetricRow.__table__).c
_LATEST_POINTS = cast(Table, LatestMetricRow.__table__).c


class LoggedModelOfMetricNotFound(NotFound):
    def __init__(self, model_ids: Iterable[str]) -> None:
        super().__init__(f"Logged models with IDs {sorted(model_ids)} not found; metrics name them as their model_id.")


def check_metric(metric: Metric, path: str = "") -> Metric:
    """*metric*, if its name and numbers can be kept; *path* says where in the request it stands."""
    check_key(metric.key, f"{path}name" if path else "name")
    if metric.timestamp_ms < 0:
        raise InvalidParameter(
            f"Invalid value {metric.timestamp_ms} for parameter '{path}timestamp' supplied: "
            "Timestamp must be a nonnegative long (64-bit integer)"
        )
    if metric.model_id:
        check_text(metric.model_id, f"{path}model_id", 256)
    if metric.dataset_name:
        check_text(metric.dataset_name, f"{path}dataset_name", 500)
    if metric.dataset_digest:
        check_text(metric.dataset_digest, f"{path}dataset_digest", 36)
    return metric


def check_metrics(metrics: Sequence[Metric]) -> None:
    """`check_metric` of each, as a list of a request's."""
    try:
        for metric in metrics:
            check_metric(metric)
    except InvalidParameter:
        # Where each stands is written out only for one that is wrong.
        for number, metric in enumerate(metrics):
            check_metric(metric, f"metrics[{number}].")


def write_metrics(session: Session, run_id: str, experiment_id: int, metrics: Sequence[Metric]) -> None:
    """Add checked points to a run's history, and to their logged models'. The same point again changes nothing."""
    rows = [_point(run_id, metric) for metric in metrics]
    # Of two that are one point the database keeps one.
    insert_new(session, MetricRow, rows)
    latest = [{**row, "experiment_id": experiment_id} for row in _latest_of(rows)]
    upsert_by(session, LatestMetricRow, latest, _overwrite_if_later)
    _write_model_metrics(session, run_id, [metric for metric in metrics if metric.model_id])


def metric_history(
    session: Session, run_id: str, key: str, *, max_results: int | None = None, page_token: str | None = None
) -> Page[Metric]:
    """A metric's points in the order of their timestamps, all of them unless *max_results* is given.

    A run or metric that doesn't exist has no points.
    """
    if max_results is not None:
        # The client asks for pages of any size; what is over the bound comes with a token for the rest.
        check_page_size(max_results, at_most=2**31)
        max_results = min(max_results, HISTORY_PAGE_SIZE_MAX)
    if not (is_storable(run_id) and is_storable(key) and seen_runs(session, [run_id])):
        return Page([])
    terms = [Term(_POINTS[name], ValueType.NUMBER) for name in ("timestamp_ms", "step", "value", "is_nan")]
    page = read_page(
        session,
        [_POINTS.value, _POINTS.is_nan, _POINTS.timestamp_ms, _POINTS.step],
        [Turn(MetricRow.__table__, [_POINTS.run_id == run_id, _POINTS.key == key], terms)],
        search_key=(run_id, key),
        max_results=max_results,
        token=page_token,
    )
    # By place and not by name: there may be a hundred thousand of them. After the four comes the page's order.
    rows: Sequence[Any] = page.items
    points = [
        Metric(key=key, value=math.nan if is_nan else value, timestamp_ms=timestamp_ms, step=step)
        for value, is_nan, timestamp_ms, step, *_ in rows
    ]
    return Page(points, page.next_page_token)


def history_after(session: Session, run_id: str, key: str, last: Metric | None, *, points_max: int) -> list[Metric]:
    """The next points of a metric's history after *last*, None for its begin: to read one of any length in steps."""
    if not (is_storable(run_id) and is_storable(key) and seen_runs(session, [run_id])):
        return []
    asked: dict[str, object] = {"run_id": run_id, "key": key, "points_max": points_max}
    if last is not None:
        value, is_nan = stored_value(last.value)
        asked |= {"timestamp_ms": last.timestamp_ms, "step": last.step, "value": value, "is_nan": is_nan}
    rows = session.connection().execute(_BEGIN if last is None else _AFTER, asked).all()
    return [
        Metric(key=key, value=math.nan if is_nan else value, timestamp_ms=timestamp_ms, step=step)
        for value, is_nan, timestamp_ms, step in rows
    ]


_PLACE = (_POINTS.timestamp_ms, _POINTS.step, _POINTS.value, _POINTS.is_nan)
_BEGIN = (
    select(_POINTS.value, _POINTS.is_nan, _POINTS.timestamp_ms, _POINTS.step)
    .where(_POINTS.run_id == bindparam("run_id"), _POINTS.key == bindparam("key"))
    .order_by(*_PLACE)
    .limit(bindparam("points_max"))
)
_AFTER = _BEGIN.where(tuple_(*_PLACE) > tuple_(*(bindparam(column.name, type_=column.type) for column in _PLACE)))


def metric_histories(session: Session, run_ids: Sequence[str], key: str, *, max_results: int) -> list[Metric]:
    """A metric's points in several runs, by run and timestamp, each with its run's id; the first *max_results*."""
    if not is_storable(key):
        return []
    seen = seen_runs(session, [run_id for run_id in run_ids if is_storable(run_id)])
    of_runs = [_POINTS.run_id.in_(seen), _POINTS.key == key]
    in_order = (_POINTS.run_id, _POINTS.timestamp_ms, _POINTS.step, _POINTS.value, _POINTS.is_nan)
    found = session.execute(select(MetricRow.__table__).where(*of_runs).order_by(*in_order).limit(max_results))
    return [_to_metric(key, row, run_id=row.run_id) for row in found]


def sample_history(
    session: Session, run_id: str, key: str, *, points_max: int, steps: tuple[int, int] | None = None
) -> list[Metric]:
    """At most *points_max* of a metric's points, evenly spaced by number, in the order of their steps.

    The last one is always there, and the first if there is room for two. With *steps*, only points from the first to
    the last of them count.
    """
    if not (is_storable(key) and seen_runs(session, [run_id])):
        return []
    conditions = [_POINTS.run_id == run_id, _POINTS.key == key]
    if steps is not None:
        conditions.append(_POINTS.step.between(*steps))
    place = func.row_number().over(order_by=(_POINTS.step, _POINTS.timestamp_ms, _POINTS.value, _POINTS.is_nan))
    numbered = (
        select(
            *(_POINTS[name] for name in ("value", "is_nan", "timestamp_ms", "step")),
            place.label("place"),
            func.count().over().label("total"),
        )
        .where(*conditions)
        .subquery()
    )
    number, total = numbered.c.place, numbered.c.total
    # Of total places the spaced ones are those at which this rises: points_max of them, and the last among them.
    rank, rank_before = number * points_max // total, (number - 1) * points_max // total
    chosen = rank > rank_before
    if points_max > 1:
        chosen = or_(chosen, number == 1)
    rows = session.execute(select(numbered).where(chosen).order_by(number)).all()
    return [_to_metric(key, row) for row in _without_one_too_many(rows, points_max)]


def _without_one_too_many(rows: Sequence[Row[Any]], points_max: int) -> Sequence[Row[Any]]:
    # The first place may have come on top of the spaced ones; its neighbour is missed least.
    return rows if len(rows) <= points_max else [rows[0], *rows[2:]]


# Built once, as every page of runs asks.
_LATEST = (
    select(*(_LATEST_POINTS[name] for name in ("run_id", "key", "value", "is_nan", "timestamp_ms", "step")))
    .where(among(_LATEST_POINTS.run_id, "ids"))
    .order_by(_LATEST_POINTS.run_id, _LATEST_POINTS.key)
)


def latest_metrics(session: Session, run_ids: Sequence[str]) -> dict[str, list[Metric]]:
    """For each run its metrics' latest points, by key."""
    latest: dict[str, list[Metric]] = {run_id: [] for run_id in run_ids}
    # By place and not by name, which for the tens of thousands of a page of runs takes twice as long.
    rows = session.connection().execute(_LATEST, {"ids": run_ids}).all()
    for run_id, key, value, is_nan, timestamp_ms, step in rows:
        latest[run_id].append(
            Metric(key=key, value=math.nan if is_nan else value, timestamp_ms=timestamp_ms, step=step)
        )
    return latest


def stored_value(value: float) -> tuple[float, bool]:
    """How a value is kept, and whether it is NaN: SQLite has no NaN, and MLflow has no infinities."""
    if -_LARGEST <= value <= _LARGEST:
        return value, False
    if math.isnan(value):
        return 0.0, True
    return math.copysign(_LARGEST, value), False


def _point(run_id: str, metric: Metric) -> dict[str, Any]:
    value, is_nan = stored_value(metric.value)
    return {
        "run_id": run_id,
        "key": metric.key,
        "timestamp_ms": metric.timestamp_ms,
        "step": metric.step,
        "value": value,
        "is_nan": is_nan,
    }


def _latest_of(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    latest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        known = latest.get(row["key"])
        if known is None or _recency(row) > _recency(known):
            latest[row["key"]] = row
    return list(latest.values())


def _recency(row: Mapping[str, Any]) -> tuple[int, int, float]:
    return row["step"], row["timestamp_ms"], row["value"]


def _overwrite_if_later(insert: DialectInsert, row: type[Base]) -> Insert:
    given, known = insert.excluded, row.__table__.c
    return insert.on_conflict_do_update(
        index_elements=[known.run_id, known.key],
        set_={name: given[name] for name in ("value", "is_nan", "timestamp_ms", "step")},
        # The comparison is the database's, under the row's lock, so that no writer can put an older point back.
        where=tuple_(given.step, given.timestamp_ms, given.value) > tuple_(known.step, known.timestamp_ms, known.value),
    )


def _write_model_metrics(session: Session, run_id: str, metrics: Sequence[Metric]) -> None:
    if not metrics:
        return
    model_ids = {metric.model_id for metric in metrics if metric.model_id}
    of_models = select(LoggedModelRow.model_id, LoggedModelRow.experiment_id).where(
        LoggedModelRow.model_id.in_(model_ids)
    )
    found = session.execute(narrowed(session, of_models, LoggedModelRow.experiment_id))
    known = {model_id: experiment_id for model_id, experiment_id in found}  # noqa: C416  (a row is no pair to mypy)
    if missing := model_ids - known.keys():
        raise LoggedModelOfMetricNotFound(missing)
    for experiment_id in set(known.values()):
        ensure_may_change(session, experiment_id)
    rows = [
        {
            **_point(run_id, metric),
            "model_id": metric.model_id,
            "dataset_name": metric.dataset_name or "",
            "dataset_digest": metric.dataset_digest or "",
        }
        for metric in metrics
    ]
    insert_new(session, LoggedModelMetricRow, rows)


def _to_metric(key: str, row: Any, run_id: str | None = None) -> Metric:
    return Metric(
        run_id=run_id,
        key=key,
        value=math.nan if row.is_nan else row.value,
        timestamp_ms=row.timestamp_ms,
        step=row.step,
    )
