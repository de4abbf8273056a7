"""MLflow's API of metric histories. Translates, and nothing else.

A history may have millions of points, so the one that is asked for whole is sent page by page as it is read.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import FromQuery
from litestar.response import Stream

from gateway.api.mlflow_numbers import int64
from gateway.api.mlflow_tracking_wire import MetricsAnswer, metric_on_wire
from gateway.auth import Permission, needs
from tracking import metrics, runs
from tracking.database import Database
from tracking.entities import Metric
from tracking.errors import InvalidParameter
from tracking.paging import Page

# mlflow/server/handlers.py: what the genuine server takes in one request.
_RUNS_MAX = 100
_POINTS_OF_A_RUN_MAX = 2_500
_POINTS_MAX = 25_000

# About half a megabyte of JSON.
_STREAMED_AT_ONCE = 5_000


def _paths(path: str) -> list[str]:
    return [f"/api/2.0/mlflow/{path}", f"/ajax-api/2.0/mlflow/{path}"]


@get(_paths("metrics/get-history"), opt=needs(Permission.TRACKING_READ))
async def get_metric_history(
    metric_key: FromQuery[str],
    database: NamedDependency[Database],
    run_id: FromQuery[str | None] = None,
    run_uuid: FromQuery[str | None] = None,
    max_results: FromQuery[int | None] = None,
    page_token: FromQuery[str | None] = None,
) -> Response[Any]:
    history = _History(database, _required(run_id or run_uuid, "run_id"), metric_key)
    first = await history.page(_STREAMED_AT_ONCE if max_results is None else max_results, page_token)
    if max_results is not None or first.next_page_token is None:
        answer = MetricsAnswer([metric_on_wire(point) for point in first.items], first.next_page_token)
        return Response(answer)
    return Stream(_whole(history, first), media_type=MediaType.JSON)


class _History:
    def __init__(self, database: Database, run_id: str, key: str) -> None:
        self._database = database
        self._run_id = run_id
        self._key = key

    async def page(self, max_results: int, token: str | None) -> Page[Metric]:
        return await asyncio.to_thread(self._read, max_results, token or None)

    def _read(self, max_results: int, token: str | None) -> Page[Metric]:
        with self._database.reading() as session:
            return metrics.metric_history(session, self._run_id, self._key, max_results=max_results, page_token=token)


async def _whole(history: _History, page: Page[Metric]) -> AsyncIterator[bytes]:
    yield b'{"metrics":['
    yield _points(page)
    # No transaction is open between two pages: a slow reader would keep a connection from everybody else.
    while page.next_page_token is not None:
        page = await history.page(_STREAMED_AT_ONCE, page.next_page_token)
        yield b"," + _points(page)
    yield b"]}"


def _points(page: Page[Metric]) -> bytes:
    return msgspec.json.encode([metric_on_wire(point) for point in page.items])[1:-1]


@get(_paths("metrics/get-history-bulk"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_metric_histories(
    database: NamedDependency[Database],
    run_id: FromQuery[list[str] | None] = None,
    metric_key: FromQuery[str | None] = None,
    max_results: FromQuery[int] = _POINTS_MAX,
) -> MetricsAnswer:
    run_ids, key = _checked_runs(run_id, "run_id"), _required(metric_key, "metric_key")
    wanted = _within(max_results, _POINTS_MAX, 2**31)
    with database.reading() as session:
        found = metrics.metric_histories(session, run_ids, key, max_results=wanted)
    return MetricsAnswer([metric_on_wire(point) for point in found])


@get(_paths("metrics/get-history-bulk-interval"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_metric_samples(
    database: NamedDependency[Database],
    run_ids: FromQuery[list[str] | None] = None,
    metric_key: FromQuery[str | None] = None,
    start_step: FromQuery[str | None] = None,
    end_step: FromQuery[str | None] = None,
    max_results: FromQuery[int] = _POINTS_OF_A_RUN_MAX,
) -> MetricsAnswer:
    wanted, key = _checked_runs(run_ids, "run_ids"), _required(metric_key, "metric_key")
    steps = _steps(start_step, end_step)
    points_max = _within(max_results, _POINTS_OF_A_RUN_MAX, _POINTS_OF_A_RUN_MAX)
    found: list[Metric] = []
    with database.reading() as session:
        for run_id in wanted:
            runs.get_run_info(session, run_id)
            points = metrics.sample_history(session, run_id, key, points_max=points_max, steps=steps)
            found += [msgspec.structs.replace(point, run_id=run_id) for point in points]
    return MetricsAnswer([metric_on_wire(point) for point in found])


def _required(value: str | None, field: str) -> str:
    if not value:
        raise InvalidParameter(f"Missing value for required parameter '{field}'")
    return value


def _checked_runs(run_ids: list[str] | None, field: str) -> list[str]:
    if not run_ids:
        raise InvalidParameter(f"Missing value for required parameter '{field}': name at least one run.")
    if len(run_ids) > _RUNS_MAX:
        raise InvalidParameter(f"A request can name at most {_RUNS_MAX} runs; got {len(run_ids)}.")
    return list(dict.fromkeys(run_ids))


def _within(max_results: int, at_most: int, refused_beyond: int) -> int:
    if not 1 <= max_results <= refused_beyond:
        raise InvalidParameter(
            f"Invalid value {max_results} for parameter 'max_results' supplied: it must be between 1 and {at_most}."
        )
    return min(max_results, at_most)


def _steps(start: str | None, end: str | None) -> tuple[int, int] | None:
    if start is None and end is None:
        return None
    if start is None or end is None:
        raise InvalidParameter("If either start step or end step are specified, both must be specified.")
    first, last = int64(start, "start_step"), int64(end, "end_step")
    if first > last:
        raise InvalidParameter(
            f"end_step must be greater than start_step. Found start_step={first} and end_step={last}."
        )
    return first, last


handlers = [get_metric_history, get_metric_histories, get_metric_samples]
