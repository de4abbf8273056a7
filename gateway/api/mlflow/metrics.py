"""MLflow's API of metric histories. Translates, and nothing else.

A history may have millions of points, so the one that is asked for whole is sent page by page as it is read.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import FromQuery
from litestar.response import Stream

from gateway.api.mlflow.numbers import int64
from gateway.api.mlflow.tracking_wire import MetricsAnswer, metric_on_wire
from gateway.auth import needs
from tracking import metrics, runs
from tracking.access.permissions import Permission
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

# What stands around the points of a `MetricsAnswer`.
_BEGIN, _END = b'{"metrics":[', b"]}"


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
    if max_results is None and not page_token:
        first = await history.block(None)
        content = Response(_BEGIN + first.json + _END, media_type=MediaType.JSON)
        return content if first.last is None else Stream(_whole(history, first), media_type=MediaType.JSON)
    page = await history.page(max_results, page_token)
    return Response(MetricsAnswer([metric_on_wire(point) for point in page.items], page.next_page_token))


class _History:
    def __init__(self, database: Database, run_id: str, key: str) -> None:
        self._database = database
        self._run_id = run_id
        self._key = key

    async def page(self, max_results: int | None, token: str | None) -> Page[Metric]:
        return await asyncio.to_thread(self._read, max_results, token or None)

    async def block(self, last: Metric | None) -> "_Block":
        return await asyncio.to_thread(self._read_block, last)

    def _read_block(self, last: Metric | None) -> "_Block":
        with self._database.reading() as session:
            points = metrics.history_after(session, self._run_id, self._key, last, points_max=_STREAMED_AT_ONCE)
        json = msgspec.json.encode([metric_on_wire(point) for point in points])[1:-1]
        return _Block(json, points[-1] if len(points) == _STREAMED_AT_ONCE else None)

    def _read(self, max_results: int | None, token: str | None) -> Page[Metric]:
        with self._database.reading() as session:
            return metrics.metric_history(session, self._run_id, self._key, max_results=max_results, page_token=token)


class _Block(NamedTuple):
    """Some points as JSON, without the brackets of the list, and the last of them if there may be more."""

    json: bytes
    last: Metric | None


async def _whole(history: _History, block: _Block) -> AsyncIterator[bytes]:
    yield _BEGIN + block.json
    # No transaction is open between two blocks: a slow reader would keep a connection from everybody else.
    while block.last is not None:
        block = await history.block(block.last)
        if block.json:
            yield b"," + block.json
    yield _END


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
