"""The kinds of request that are measured at a rate: for each, what to prepare on a server and what to send."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote

from loadtests.servers import Server
from loadtests.tracking.wire import Requests, call, request

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_METRICS_PER_BATCH = 100
_PAGE = 100
_ALIAS = "candidate"


class Work(NamedTuple):
    """One row of the table."""

    title: str
    prepare: Callable[[Server], Requests]
    connections: int = 8


def create_experiment(server: Server, name: str) -> str:
    answer = call(server.port, "POST", f"{_API}/experiments/create", {"name": name})
    return str(answer["experiment_id"])


def create_run(server: Server, experiment_id: str) -> dict[str, str]:
    answer = call(server.port, "POST", f"{_API}/runs/create", {"experiment_id": experiment_id, "start_time": _now_ms()})
    info: dict[str, str] = answer["run"]["info"]
    return info


def _now_ms() -> int:
    return int(time.time() * 1000)


def _log_batch(server: Server) -> Requests:
    experiment_id = create_experiment(server, "batches")

    def requests(_: int) -> Iterator[bytes]:
        run_id = create_run(server, experiment_id)["run_id"]
        for step in itertools.count():
            metrics = [
                {"key": f"metric_{key}", "value": step + key / 7, "timestamp": _now_ms(), "step": step}
                for key in range(_METRICS_PER_BATCH)
            ]
            yield request("POST", f"{_API}/runs/log-batch", {"run_id": run_id, "metrics": metrics})

    return requests


def _log_metric(server: Server) -> Requests:
    experiment_id = create_experiment(server, "points")

    def requests(_: int) -> Iterator[bytes]:
        run_id = create_run(server, experiment_id)["run_id"]
        for step in itertools.count():
            point = {"run_id": run_id, "key": "loss", "value": 1 / (step + 1), "timestamp": _now_ms(), "step": step}
            yield request("POST", f"{_API}/runs/log-metric", point)

    return requests


def _create_run(server: Server) -> Requests:
    experiment_id = create_experiment(server, "runs")

    def requests(number: int) -> Iterator[bytes]:
        for count in itertools.count():
            tags = [{"key": "mlflow.user", "value": "someone"}, {"key": "mlflow.source.type", "value": "LOCAL"}]
            run = {"experiment_id": experiment_id, "run_name": f"{number}-{count}", "tags": tags}
            yield request("POST", f"{_API}/runs/create", {**run, "start_time": _now_ms()})

    return requests


def _register(server: Server, model: str) -> dict[str, str]:
    """Make a model; what asks for a version of it, from a run's files."""
    run = create_run(server, "0")
    folder = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    for name in ("MLmodel", "model.pkl"):
        call(server.port, "PUT", f"{_ARTIFACTS}/{folder}/model/{name}", f"what {name} would hold")
    call(server.port, "POST", f"{_API}/registered-models/create", {"name": model})
    return {"name": model, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}


def _create_version(server: Server) -> Requests:
    create = request("POST", f"{_API}/model-versions/create", _register(server, "versions"))
    return lambda _: itertools.repeat(create)


def _register_two(server: Server, model: str) -> None:
    version = _register(server, model)
    for _ in range(2):
        call(server.port, "POST", f"{_API}/model-versions/create", version)
    call(server.port, "POST", f"{_API}/registered-models/alias", {"name": model, "alias": _ALIAS, "version": "1"})


def _set_alias(server: Server) -> Requests:
    _register_two(server, "set")
    bodies = [{"name": "set", "alias": _ALIAS, "version": version} for version in ("2", "1")]
    both = [request("POST", f"{_API}/registered-models/alias", body) for body in bodies]
    return lambda _: itertools.cycle(both)


def _get_alias(server: Server) -> Requests:
    _register_two(server, "get")
    ask = request("GET", f"{_API}/registered-models/alias?name=get&alias={quote(_ALIAS)}")
    return lambda _: itertools.repeat(ask)


WRITES_AND_LOOKUPS = [
    Work("`log-batch` of 100 metrics", _log_batch),
    Work("`log-metric`", _log_metric),
    Work("`runs/create`", _create_run),
    Work("`model-versions/create` on one model", _create_version),
    Work("alias set", _set_alias, connections=1),
    Work("alias get", _get_alias),
]


def search(experiment_id: str, runs: int) -> Work:
    """A page of runs by a metric and a param, in the order of another metric."""
    body = {
        "experiment_ids": [experiment_id],
        "filter": "metrics.m3 > 0.5 AND params.p4 = 'v7'",
        "order_by": ["metrics.m5 DESC"],
        "max_results": _PAGE,
    }
    ask = request("POST", f"{_API}/runs/search", body)
    return Work(f"`runs/search` in {runs:,} runs", lambda _: lambda _: itertools.repeat(ask), connections=1)


def search_by_default(experiment_id: str, runs: int) -> Work:
    ask = request("POST", f"{_API}/runs/search", {"experiment_ids": [experiment_id]})
    return Work(
        f"`runs/search` with defaults in {runs:,} runs", lambda _: lambda _: itertools.repeat(ask), connections=1
    )


def history_path(run_id: str) -> str:
    return f"{_API}/metrics/get-history?run_id={run_id}&metric_key=loss"


def artifact_path(name: str) -> str:
    return f"{_ARTIFACTS}/{name}"
