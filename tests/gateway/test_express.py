"""The short way past Litestar answers as the long one does: a body of unannounced length always takes the long one."""

import json

import httpx
import pytest

# A server for each test: slow, so that `make test` stays under two minutes; part of `make check`.
pytestmark = pytest.mark.slow

_API = "/api/2.0/mlflow"


def both_ways(server: str, path: str, body: bytes) -> list[tuple[int, object, str]]:
    answers = [
        httpx.post(f"{server}{_API}/{path}", content=content, headers={"Content-Type": "application/json"})
        for content in (body, iter([body]))
    ]
    return [(answer.status_code, answer.json(), answer.headers["content-type"]) for answer in answers]


@pytest.fixture
def run_id(api_server: str) -> str:
    answer = httpx.post(f"{api_server}{_API}/runs/create", json={"experiment_id": "0", "start_time": 1})
    return answer.json()["run"]["info"]["run_id"]


@pytest.mark.parametrize(
    "point",
    [
        pytest.param({"key": "loss", "value": 0.5, "timestamp": 1, "step": 1}, id="plain"),
        pytest.param({"key": "loss", "value": "NaN", "timestamp": "1", "step": "2"}, id="numbers as text"),
        pytest.param({"key": "loss", "value": 1, "timestamp": 1, "unknown": [{}]}, id="an unknown field"),
        pytest.param({"key": "loss", "timestamp": 1}, id="a field is missing"),
        pytest.param({"key": 7, "value": 1, "timestamp": 1}, id="a field of another type"),
        pytest.param({"key": "../up", "value": 1, "timestamp": 1}, id="a key that is refused"),
        pytest.param({"key": "loss", "value": 1, "timestamp": 2**70}, id="a number over 64 bits"),
        pytest.param({"key": "l\0ss", "value": 1, "timestamp": 1}, id="a NUL"),
        pytest.param({"run_id": "no such run", "key": "loss", "value": 1, "timestamp": 1}, id="an unknown run"),
    ],
)
def test_a_point_is_answered_alike_both_ways(api_server: str, run_id: str, point: dict[str, object]) -> None:
    body = json.dumps({"run_id": run_id, **point}).encode()
    short, long = both_ways(api_server, "runs/log-metric", body)
    assert short == long


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"key": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"key": "a", "key": "b"}', id="a key twice"),
        pytest.param(b'{"key": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"tags": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="nested deeply"),
    ],
)
@pytest.mark.parametrize("path", ["runs/log-metric", "runs/log-batch", "runs/create", "registered-models/alias"])
def test_a_body_that_is_none_is_answered_alike_both_ways(api_server: str, path: str, body: bytes) -> None:
    short, long = both_ways(api_server, path, body)
    assert short == long
    assert short[0] in {200, 400} if path == "runs/create" else short[0] == 400


def test_a_batch_over_its_own_bound_is_413(api_server: str, run_id: str) -> None:
    body = json.dumps({"run_id": run_id, "tags": [{"key": "k", "value": "v" * 1_000_001}]}).encode()
    short, long = both_ways(api_server, "runs/log-batch", body)
    assert short == long
    assert short[0] == 413


def test_an_alias_is_asked_alike_both_ways(api_server: str) -> None:
    asked = f"{api_server}{_API}/registered-models/alias?name=nobody&alias=champion"
    # A parameter that nobody expects leads the long way.
    answers = [httpx.get(asked + more) for more in ("", "&more=1")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()
