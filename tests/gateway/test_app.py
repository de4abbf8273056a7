"""The app as a whole: health, what is refused at the door, and what stops it from starting."""

import socket

import httpx
import pytest
from litestar import Litestar, get

from gateway.auth import RouteWithoutPermission, require_declared_permissions


def test_health_ping_version_and_ready_answer(api_server):
    assert httpx.get(f"{api_server}/health").text == "OK"
    assert httpx.get(f"{api_server}/ping").status_code == 200
    assert httpx.get(f"{api_server}/version").text == "3.17.2"
    assert httpx.get(f"{api_server}/ready").json() == {"status": "ready"}


def test_unknown_paths_and_methods_answer_in_mlflows_error_body(api_server):
    missing = httpx.get(f"{api_server}/no/such/path")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    for method in ("GET", "POST"):
        short = httpx.request(method, f"{api_server}/nothing")
        assert (short.status_code, short.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    wrong = httpx.delete(f"{api_server}/health")
    assert (wrong.status_code, wrong.json()["error_code"]) == (405, "METHOD_NOT_ALLOWED")


def test_the_openapi_document_names_every_call_once(api_server):
    document = httpx.get(f"{api_server}/openapi.json").json()
    names = [call["operationId"] for path in document["paths"].values() for call in path.values()]
    assert "post_api_2.0_mlflow_runs_create" in names
    assert len(set(names)) == len(names)


def test_a_caller_who_hangs_up_within_a_body_is_no_crash_of_ours(api_server, caplog):
    address = (httpx.URL(api_server).host, httpx.URL(api_server).port)
    request = (
        "POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    with socket.create_connection(address) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert httpx.get(f"{api_server}/health").is_success
    assert "request_crashed" not in [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Host": "evil.example"}, 403, id="a rebound name"),
        pytest.param({"Origin": "http://evil.example"}, 403, id="a foreign page"),
        pytest.param({"Origin": "null"}, 403, id="a sandboxed page"),
        pytest.param({"Origin": "http://["}, 403, id="an origin that cannot be read"),
        pytest.param({"Content-Type": "text/plain"}, 415, id="a form's body"),
    ],
)
def test_a_web_page_cannot_drive_a_server_on_loopback(api_server, headers, status):
    answer = httpx.post(f"{api_server}/api/2.0/mlflow/experiments/create", content=b"{}", headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}


def test_a_route_that_declares_no_permission_stops_the_start():
    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return ""

    with pytest.raises(RouteWithoutPermission, match="/forgotten"):
        require_declared_permissions(Litestar([forgotten], openapi_config=None).routes)
