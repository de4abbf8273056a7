"""Histories of metrics over the wire: whole, in bulk, and in samples."""

import itertools
import tracemalloc

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

API = "/api/2.0/mlflow/metrics"
AJAX = "/ajax-api/2.0/mlflow/metrics"


@pytest.fixture
def client(api_server):
    return MlflowClient(tracking_uri=api_server)


@pytest.fixture
def wire(api_server):
    with httpx.Client(base_url=api_server) as client:
        yield client


@pytest.fixture
def log_points(client):
    def log(count, key="loss"):
        run_id = client.create_run("0").info.run_id
        for start in range(0, count, 1_000):
            steps = range(start, min(count, start + 1_000))
            client.log_batch(run_id, metrics=[Metric(key, step / 2, 1_000 + step, step) for step in steps])
        return run_id

    return log


def test_a_long_history_comes_whole_and_in_order(client, wire, log_points):
    run_id = log_points(10_345)
    points = wire.get(f"{API}/get-history", params={"run_id": run_id, "metric_key": "loss"}).json()["metrics"]
    assert [point["step"] for point in points] == list(range(10_345))
    assert points[-1] == {"key": "loss", "value": 5172.0, "timestamp": 11_344, "step": 10_344}


def test_a_whole_history_takes_no_more_memory_than_a_part_of_it(wire, log_points):
    """The server runs in this process; what the answer itself weighs is read and dropped as it comes."""
    params = {"run_id": log_points(24_000), "metric_key": "loss"}

    def peak(**more):
        tracemalloc.start()
        with wire.stream("GET", f"{API}/get-history", params=params | more) as answer:
            size = sum(len(chunk) for chunk in answer.iter_raw())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used, size

    used_by_part, part = peak(max_results=5_000)
    used_by_whole, whole = peak()
    assert whole > 4 * part
    assert used_by_whole < 2 * used_by_part


def test_histories_of_several_runs_come_in_one_answer(wire, log_points):
    first, second = sorted([log_points(3), log_points(2)])
    params = {"run_id": [second, first, "0" * 32], "metric_key": "loss"}
    points = wire.get(f"{AJAX}/get-history-bulk", params=params).json()["metrics"]
    assert [point["run_id"] for point in points] == sorted(point["run_id"] for point in points)
    assert {point["run_id"] for point in points} == {first, second}
    assert len(wire.get(f"{AJAX}/get-history-bulk", params=params | {"max_results": 4}).json()["metrics"]) == 4


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        pytest.param({"max_results": 100}, list(range(10)), id="all, if there is room"),
        pytest.param({"max_results": 2}, [0, 9], id="the first and the last"),
        pytest.param({"max_results": 1}, [9], id="the last alone"),
        pytest.param({"start_step": 3, "end_step": 5}, [3, 4, 5], id="within steps"),
        pytest.param({"start_step": 2, "end_step": 8, "max_results": 2}, [2, 8], id="the ends of the steps"),
    ],
)
def test_a_sample_keeps_the_ends(wire, log_points, asked, steps):
    params = {"run_ids": log_points(10), "metric_key": "loss"} | asked
    points = wire.get(f"{API}/get-history-bulk-interval", params=params).json()["metrics"]
    assert [point["step"] for point in points] == steps


def test_a_sample_is_spread_evenly(wire, log_points):
    params = {"run_ids": log_points(1_000), "metric_key": "loss", "max_results": 11}
    points = wire.get(f"{API}/get-history-bulk-interval", params=params).json()["metrics"]
    steps = [point["step"] for point in points]
    assert len(steps) == 11
    assert {steps[0], steps[-1]} == {0, 999}
    assert max(later - earlier for earlier, later in itertools.pairwise(steps)) < 200


@pytest.mark.parametrize(
    ("path", "params", "said"),
    [
        pytest.param(f"{AJAX}/get-history-bulk", {"metric_key": "loss"}, "run_id", id="no run"),
        pytest.param(f"{AJAX}/get-history-bulk", {"run_id": "a"}, "metric_key", id="no key"),
        pytest.param(
            f"{AJAX}/get-history-bulk", {"run_id": ["a"] * 101, "metric_key": "m"}, "at most 100", id="many runs"
        ),
        pytest.param(
            f"{API}/get-history-bulk-interval",
            {"run_ids": "a", "metric_key": "m", "start_step": 1},
            "both must be",
            id="half an interval",
        ),
        pytest.param(
            f"{API}/get-history-bulk-interval",
            {"run_ids": "a", "metric_key": "m", "start_step": 2, "end_step": 1},
            "must be greater",
            id="a reversed interval",
        ),
        pytest.param(
            f"{API}/get-history-bulk-interval",
            {"run_ids": "a", "metric_key": "m", "max_results": 2_501},
            "between 1 and 2500",
            id="many points",
        ),
    ],
)
def test_what_is_asked_wrongly_is_said(wire, path, params, said):
    answer = wire.get(path, params=params)
    assert answer.status_code == 400
    assert said in answer.json()["message"]
