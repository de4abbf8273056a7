"""What browsers are told with each answer, and which names and pages may ask at all."""

import shutil
import socket

import httpx
import pytest

from gateway.api.browser_guard import BrowserGuard, ForeignHost, ForeignOrigin
from gateway.api.browser_headers import PROTECTIVE_HEADERS
from gateway.settings import Settings
from tests.conftest import running_api

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
MACHINE = socket.gethostname()


@pytest.fixture(scope="module")
def client(tmp_path_factory, migrated_sqlite):
    data = tmp_path_factory.mktemp("data")
    shutil.copy(migrated_sqlite, data / "titlebout.db")
    with running_api(Settings(data=str(data))) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/health", 200, id="text"),
        pytest.param("GET", "/openapi.json", 200, id="a document"),
        pytest.param("GET", "/metrics", 200, id="metrics"),
        pytest.param("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", 200, id="tracking"),
        pytest.param("GET", "/api/2.0/mlflow/registered-models/alias?name=a&alias=b", 404, id="on the express way"),
        pytest.param("GET", "/nothing", 404, id="what isn't there"),
        pytest.param("DELETE", "/health", 405, id="another method"),
        pytest.param("GET", "/%00", 400, id="what is refused at once"),
        pytest.param("OPTIONS", "/health", 204, id="which methods there are"),
    ],
)
def test_every_answer_tells_browsers_to_run_nothing_and_to_keep_nothing(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    for name, value in PROTECTIVE_HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]


def test_an_artifact_is_saved_and_never_shown(client):
    client.put(f"{PROXY}/page.html", content=b"<script>alert(1)</script>")
    answer = client.get(f"{PROXY}/page.html")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].endswith("sandbox")
    # Its digest names it, so a browser need not fetch it twice, but has to ask.
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get(f"{PROXY}/page.html", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.headers["x-content-type-options"]) == (304, "nosniff")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_no_method_is_open_to_a_page_of_another_place(client, method, headers):
    assert client.request(method, "/api/2.0/mlflow/experiments/search", headers=headers).status_code == 403


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_a_header_that_says_where_a_request_belongs_is_given_once(client, name):
    own = f"{client.base_url.host}:{client.base_url.port}"
    values = [own, "evil.example"] if name == "Host" else [f"http://{own}", "http://evil.example"]
    for first, second in (values, values[::-1]):
        host = "" if name == "Host" else f"Host: {own}\r\n"
        request = f"GET /health HTTP/1.1\r\n{host}{name}: {first}\r\n{name}: {second}\r\nConnection: close\r\n\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(request.encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


OPEN = "0.0.0.0"


@pytest.mark.parametrize(
    ("listening", "allowed", "answered", "refused"),
    [
        pytest.param(
            *("127.0.0.1", ""),
            ["localhost:8080", "127.0.0.1", "[::1]:1"],
            ["evil.example", "10.0.0.1", "", "[", MACHINE],
            id="loopback answers to its own names",
        ),
        pytest.param(
            *(OPEN, ""),
            ["localhost", "10.0.0.1:8080", "[fd00::1]:8080", MACHINE],
            ["evil.example", "", "10.0.0.1.evil"],
            id="an open address answers to addresses and to the machine's name",
        ),
        pytest.param(
            *(OPEN, "a.example, B.example"),
            ["a.example:1", "b.EXAMPLE", "localhost"],
            ["10.0.0.1", "c.a.example", ""],
            id="a list is all there is beside loopback",
        ),
        pytest.param(OPEN, "*", ["evil.example", ""], [], id="any, if told so"),
    ],
)
def test_a_request_names_a_host_that_is_meant(listening, allowed, answered, refused):
    guard = BrowserGuard(listening, allowed.split(","))
    for host in answered:
        guard.check("GET", "/", {b"host": host.encode()})
    for host in refused:
        with pytest.raises(ForeignHost):
            guard.check("GET", "/", {b"host": host.encode()})


def test_a_page_of_our_own_may_ask():
    guard = BrowserGuard("127.0.0.1")
    guard.check("POST", "/", {b"host": b"localhost:8080", b"origin": b"http://localhost:8080"})
    with pytest.raises(ForeignOrigin):
        guard.check("POST", "/", {b"host": b"localhost:8080", b"origin": b"http://localhost:8081"})
