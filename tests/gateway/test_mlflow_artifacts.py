"""The artifact proxy over HTTP: what MLflow's client does with it, and what others might try."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest

from tracking import artifact_records, experiments, runs
from tracking.artifact_paths import INCOMING, ArtifactPath
from tracking.database import Database
from tracking.entities import RunInfo

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def client(api_server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api_server) as client:
        yield client


@pytest.fixture
def database(api_server, shared_api) -> Iterator[Database]:
    database = Database(f"sqlite:///{shared_api.data}/titlebout.db")
    yield database
    database.dispose()


@pytest.fixture
def root(api_server, shared_api) -> Path:
    return shared_api.data / "artifacts"


def files_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def freeze(database: Database, folder: str) -> None:
    with database.writing() as session:
        manifest = artifact_records.manifest_of(session, ArtifactPath.parse(folder))
        assert manifest is not None
        artifact_records.freeze(session, ArtifactPath.parse(folder), "registered as iris version 3", manifest)


def test_what_is_put_is_got_back_with_its_digest_as_etag(client):
    data = os.urandom(3_000_000)
    put = client.put(f"{PROXY}/1/run/artifacts/model.bin", content=data)
    assert (put.status_code, put.json()) == (200, {})
    got = client.get(f"{PROXY}/1/run/artifacts/model.bin")
    assert got.content == data
    assert got.headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert got.headers["content-length"] == "3000000"
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-type"] == "application/octet-stream"


def test_the_ajax_twin_is_the_same_store(client):
    client.put("/ajax-api/2.0/mlflow-artifacts/artifacts/a.html", content=b"<script>")
    assert client.get(f"{PROXY}/a.html").content == b"<script>"


def test_a_text_file_can_be_put_as_what_it_is(client):
    assert client.put(f"{PROXY}/notes.txt", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 200


def test_an_empty_file_can_be_put_and_got(client):
    client.put(f"{PROXY}/a/empty", content=b"")
    assert client.get(f"{PROXY}/a/empty").content == b""


def test_a_body_without_announced_length_can_be_put(client):
    client.put(f"{PROXY}/a", content=iter([b"one", b"two"]))
    assert client.get(f"{PROXY}/a").content == b"onetwo"


@pytest.mark.parametrize("name", ["日本#1%.txt", "50%25.txt", "a b+c?d&e.txt", "ü.bin"])
def test_a_name_is_kept_to_the_letter(client, name):
    client.put(f"{PROXY}/run/{quote(name)}", content=b"x")
    assert client.get(PROXY, params={"path": "run"}).json() == {
        "files": [{"path": name, "is_dir": False, "file_size": 1}]
    }
    got = client.get(f"{PROXY}/run/{quote(name)}")
    assert got.content == b"x"
    assert got.headers["content-disposition"] == f"attachment; filename*=UTF-8''{quote(name)}"


def test_head_says_what_get_would_send(client):
    client.put(f"{PROXY}/a", content=b"12345")
    head = client.head(f"{PROXY}/a")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")
    assert client.head(f"{PROXY}/absent").status_code == 404


def test_a_range_is_sent_alone(client):
    client.put(f"{PROXY}/a", content=b"0123456789")
    part = client.get(f"{PROXY}/a", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    beyond = client.get(f"{PROXY}/a", headers={"Range": "bytes=10-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */10")
    assert set(beyond.json()) == {"error_code", "message"}


def test_the_rest_of_a_file_is_only_sent_if_it_is_still_the_same_file(client):
    client.put(f"{PROXY}/a", content=b"0123456789")
    etag = client.get(f"{PROXY}/a").headers["etag"]
    rest = {"Range": "bytes=5-", "If-Range": etag}
    assert client.get(f"{PROXY}/a", headers=rest).content == b"56789"
    assert client.get(f"{PROXY}/a", headers={"If-None-Match": etag}).status_code == 304
    client.put(f"{PROXY}/a", content=b"abcdefghij")
    assert client.get(f"{PROXY}/a", headers=rest).content == b"abcdefghij"
    assert client.get(f"{PROXY}/a", headers={"If-None-Match": etag}).status_code == 200


def test_a_file_changed_behind_our_back_has_no_etag(client, root):
    client.put(f"{PROXY}/a", content=b"x")
    (root / "a").write_bytes(b"other")
    assert "etag" not in client.get(f"{PROXY}/a").headers


def test_a_folder_is_listed_by_names_alone(client):
    for path in ("1/m/MLmodel", "1/m/data/w", "1/m2/x"):
        client.put(f"{PROXY}/{path}", content=b"12")
    listed = client.get(PROXY, params={"path": "1/m"}).json()
    assert listed == {"files": [{"path": "MLmodel", "is_dir": False, "file_size": 2}, {"path": "data", "is_dir": True}]}
    assert client.get(PROXY, params={"path": "1/m/"}).json() == listed
    assert [entry["path"] for entry in client.get(PROXY).json()["files"]] == ["1"]
    assert client.get(PROXY, params={"path": "1/m/MLmodel"}).json() == {"files": []}
    assert client.get(PROXY, params={"path": "absent"}).json() == {"files": []}


def test_a_folder_or_nothing_in_place_of_a_file_is_404_with_what_to_do(client):
    client.put(f"{PROXY}/1/a", content=b"x")
    folder = client.get(f"{PROXY}/1")
    assert (folder.status_code, folder.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "is a folder. List it" in folder.json()["message"]
    assert client.get(f"{PROXY}/1/b").json()["message"] == "There is no artifact '1/b'."


def test_a_file_or_a_tree_is_deleted(client, root):
    for path in ("1/a", "1/b/c", "2/d"):
        client.put(f"{PROXY}/{path}", content=b"x")
    assert client.delete(f"{PROXY}/1").json() == {}
    assert client.delete(f"{PROXY}/absent").json() == {}
    assert files_below(root) == ["2/d"]


def test_a_tree_is_deleted_by_its_name_with_a_slash_as_mlflow_s_client_does_it(client, root):
    for path in ("1/a", "1/b/c", "2/d"):
        client.put(f"{PROXY}/{path}", content=b"x")
    assert client.delete(f"{PROXY}/1/").json() == {}
    # The whole store is no tree that one call deletes.
    refused = [client.delete(f"{PROXY}{path}").status_code for path in ("", "/", "//", "/2//")]
    assert refused == [405, 405, 405, 400]
    assert files_below(root) == ["2/d"]


def test_a_tree_of_thousands_of_files_is_deleted_in_steps_that_others_can_write_between(client, root):
    for number in range(2_500):
        file = root / f"1/{number % 7}/{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    client.put(f"{PROXY}/2/d", content=b"x")
    assert client.delete(f"{PROXY}/1").json() == {}
    assert files_below(root) == ["2/d"]


BAD_PATHS = {
    "up": "../up",
    "up in the middle": "a/../../b",
    "up, encoded": "%2e%2e/up",
    "up with an encoded slash": "..%2fup",
    "up, encoded twice": "%252e%252e%252fup",
    "up, encoded three times": "%25252e%25252e",
    "here": "a/./b",
    "empty name": "a//b",
    "absolute": "/etc/passwd",
    "absolute, encoded": "%2fetc/passwd",
    "backslash": "a%5c..%5cb",
    "NUL": "a%00b",
    "line feed": "a%0ab",
    "not UTF-8": "a%ff",
    "lone surrogate": "%ed%a0%80",
    "slash at the end": "a/",
    "long name": "x" * 256,
    "long path": "/".join(["x" * 200] * 6),
    "reserved": f"{INCOMING}/x",
}


def test_a_path_that_could_lead_elsewhere_is_400_by_every_method(api_server, root):
    # All against one server: starting one for each would take most of the time.
    answers = {
        (method, kind): raw_request(api_server, method, f"{PROXY}/{path}", b"x" if method == "PUT" else b"")
        for method in ("GET", "PUT", "DELETE")
        for kind, path in BAD_PATHS.items()
        if (method, kind) != ("DELETE", "slash at the end")
    }
    wrong = {
        asked: body for asked, (status, body) in answers.items() if status != 400 or b"INVALID_PARAMETER" not in body
    }
    assert wrong == {}
    assert not root.exists() or files_below(root) == []


def test_a_listing_of_such_a_path_is_400(client):
    for path in ("../up", "/etc", "a//b", "%2e%2e", "a\\b", "a\0b", INCOMING):
        listed = client.get(f"{PROXY}?path={quote(path)}")
        assert (path, listed.status_code) == (path, 400)
        assert set(listed.json()) == {"error_code", "message"}


def raw_request(server: str, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    """As it stands: clients tidy a path up before they send it."""
    address = urlsplit(server)
    head = f"{method} {target} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\nConnection: close"
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


def test_a_registered_model_s_files_can_t_be_changed_or_deleted(client, database, root):
    client.put(f"{PROXY}/1/m/MLmodel", content=b"flavors")
    freeze(database, "1/m")
    for answer in (
        client.put(f"{PROXY}/1/m/MLmodel", content=b"changed"),
        client.put(f"{PROXY}/1/m/new", content=b"x" * 5_000_000),
        client.delete(f"{PROXY}/1/m/MLmodel"),
        client.delete(f"{PROXY}/1"),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert "registered as iris version 3: log the change as a new version" in answer.json()["message"]
    assert client.get(f"{PROXY}/1/m/MLmodel").content == b"flavors"
    assert files_below(root) == ["1/m/MLmodel"]


def test_a_file_where_a_folder_is_needed_is_409(client):
    client.put(f"{PROXY}/1/a", content=b"x")
    answer = client.put(f"{PROXY}/1/a/b", content=b"x")
    assert (answer.status_code, answer.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert client.put(f"{PROXY}/1", content=b"x").status_code == 409


def test_an_upload_whose_sender_leaves_midway_leaves_nothing(api_server, client, root):
    address = urlsplit(api_server)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"PUT {PROXY}/1/half HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 9000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 3_000_000)
        wait_until(lambda: any((root / INCOMING).glob("*")))
    wait_until(lambda: not any((root / INCOMING).glob("*")))
    assert files_below(root) == []
    assert client.get(f"{PROXY}/1/half").status_code == 404


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_taker_that_leaves_midway_lets_go_of_the_file(api_server, client, root):
    client.put(f"{PROXY}/big", content=bytes(30_000_000))
    with client.stream("GET", f"{PROXY}/big") as answer:
        next(answer.iter_raw(1000))
    me = psutil.Process()
    wait_until(lambda: not any(Path(file.path) == root / "big" for file in me.open_files()))


def make_run(database: Database, artifact_location: str | None = None) -> RunInfo:
    with database.writing() as session:
        experiment = experiments.create_experiment(session, "e", now_ms=1, artifact_location=artifact_location)
        return runs.create_run(session, experiment, start_time_ms=1).info


def test_a_run_s_artifacts_are_listed_in_pages_and_got_by_run(client, database, root):
    run = make_run(database)
    base = run.artifact_uri.removeprefix("mlflow-artifacts:/")
    client.put(f"{PROXY}/{base}/plots/a.png", content=b"png")
    for number in range(1005):
        (root / base / f"f{number:04d}").write_bytes(b"")

    first = client.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run.run_id}).json()
    token = first["next_page_token"]
    rest = client.get("/api/2.0/mlflow/artifacts/list", params={"run_uuid": run.run_id, "page_token": token}).json()
    assert first["root_uri"] == run.artifact_uri
    assert [entry["path"] for entry in first["files"] + rest["files"]] == [
        *(f"f{number:04d}" for number in range(1005)),
        "plots",
    ]
    assert "next_page_token" not in rest
    plots = client.get("/ajax-api/2.0/mlflow/artifacts/list", params={"run_id": run.run_id, "path": "plots"}).json()
    assert plots["files"] == [{"path": "plots/a.png", "is_dir": False, "file_size": 3}]
    got = client.get("/get-artifact", params={"run_id": run.run_id, "path": "plots/a.png"})
    assert got.content == b"png"


@pytest.mark.parametrize(("params", "status"), [({}, 400), ({"run_id": "absent"}, 404), ({"run_id": "a\0b"}, 400)])
def test_artifacts_of_no_run_are_refused(client, params, status):
    for path in ("/api/2.0/mlflow/artifacts/list", "/get-artifact"):
        answer = client.get(path, params={"path": "x", **params})
        assert answer.status_code == status
        assert set(answer.json()) == {"error_code", "message"}


def test_a_path_out_of_a_run_is_refused(client, database):
    run = make_run(database)
    for path in ("/api/2.0/mlflow/artifacts/list", "/get-artifact"):
        answer = client.get(path, params={"run_id": run.run_id, "path": "../other/secret"})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_artifacts_of_a_run_that_keeps_them_elsewhere_are_not_ours_to_list(client, database):
    run = make_run(database, artifact_location="s3://elsewhere/prefix")
    answer = client.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run.run_id})
    assert answer.status_code == 400
    assert "don't lie in this server's artifact store" in answer.json()["message"]


@contextlib.contextmanager
def server_process(data: Path, **settings: object) -> Iterator[tuple[str, psutil.Process]]:
    """Titlebout's APIs in a process of their own, so that its memory can be measured."""
    # The socket is handed over bound, so that no other test's server can take its port in between.
    listener = socket.create_server(("127.0.0.1", 0))
    code = f"""
import socket, time, uvicorn, registry.schema
from gateway.app import create_app
from gateway.settings import Settings
from tracking.artifact_stores import open_store
from tracking.database import Database
from tracking.schema import Base
class Ready:
    def reason_not_ready(self): return None
settings = Settings(data={str(data)!r}, **{settings!r})
database = Database(settings.database)
Base.metadata.create_all(database.engine)
app = create_app(settings, database=database, artifact_store=open_store(settings.artifacts), readiness=Ready(),
                 clock=time.time)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([socket.socket(fileno={listener.fileno()})])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], pass_fds=[listener.fileno()]
    )
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    try:
        wait_until(lambda: process.poll() is not None or answers(url))
        assert process.poll() is None, "the server did not start"
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


UPLOAD_BYTES = int(os.environ.get("TITLEBOUT_TEST_UPLOAD_BYTES", "0")) or 300 * 1024**2


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path, request, monkeypatch, kind):
    settings = {}
    if kind == "s3":
        for name, value in request.getfixturevalue("s3_environment").items():
            monkeypatch.setenv(name, value)
        settings["artifact_root"] = f"s3://titlebout-test/{tmp_path.name}"
    block = os.urandom(1024 * 1024)
    count = UPLOAD_BYTES // len(block)
    with server_process(tmp_path / "data", **settings) as (url, process), httpx.Client(timeout=300) as client:
        client.put(f"{url}{PROXY}/small", content=block)
        client.get(f"{url}{PROXY}/small")
        before = peak_bytes(process)
        started = time.monotonic()
        put = client.put(f"{url}{PROXY}/big", content=(block for _ in range(count)))
        uploaded = time.monotonic()
        assert put.status_code == 200
        with client.stream("GET", f"{url}{PROXY}/big") as answer:
            got = sum(len(chunk) for chunk in answer.iter_raw())
        downloaded = time.monotonic()
        grown = peak_bytes(process) - before
    assert got == count * len(block)
    megabytes = UPLOAD_BYTES / 1024**2
    print(
        f"{kind}: {megabytes:.0f} MiB up at {megabytes / (uploaded - started):.0f} MiB/s, "
        f"down at {megabytes / (downloaded - uploaded):.0f} MiB/s, peak memory grew by {grown / 1024**2:.1f} MiB"
    )
    assert grown < 64 * 1024**2


@pytest.mark.e2e
def test_an_artifact_over_the_limit_is_413_and_not_kept(tmp_path):
    with server_process(tmp_path / "data", artifact_bytes_max=1000) as (url, _):
        announced = httpx.put(f"{url}{PROXY}/a", content=bytes(3_000_000))
        chunked = httpx.put(f"{url}{PROXY}/a", content=iter([bytes(900), bytes(900)]))
        for answer in (announced, chunked):
            assert (answer.status_code, answer.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")
            assert "TITLEBOUT_ARTIFACT_BYTES_MAX" in answer.json()["message"]
        assert httpx.put(f"{url}{PROXY}/a", content=bytes(1000)).status_code == 200
        assert httpx.get(f"{url}{PROXY}/a").content == bytes(1000)


@pytest.mark.e2e
def test_a_sender_that_falls_silent_is_broken_off(tmp_path):
    with server_process(tmp_path / "data", artifact_idle_timeout_s=0.2) as (url, _):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            head = f"PUT {PROXY}/a HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 100\r\n\r\nhalf"
            connection.sendall(head.encode())
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert b"no byte came for 0.2 s" in answer
        assert files_below(tmp_path / "data/artifacts") == []


@pytest.mark.e2e
def test_mlflow_s_own_client_uploads_lists_and_downloads_a_tree(api_server, tmp_path):
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    for name, size in {"MLmodel": 7, "data/w.bin": 100_000, "notes 1.txt": 0, "ü%.txt": 2}.items():
        (source / name).write_bytes(os.urandom(size))
    repository = HttpArtifactRepository(f"{api_server}{PROXY}/1/run/artifacts")
    repository.log_artifacts(str(source), "model")

    listed = repository.list_artifacts("model")
    assert [(info.path, info.is_dir, info.file_size) for info in listed] == [
        ("model/MLmodel", False, 7),
        ("model/data", True, None),
        ("model/notes 1.txt", False, 0),
        ("model/ü%.txt", False, 2),
    ]
    assert repository.list_artifacts("model/MLmodel") == []
    fetched = Path(repository.download_artifacts("model", str(tmp_path)))
    for path in source.rglob("*"):
        if path.is_file():
            assert (fetched / path.relative_to(source)).read_bytes() == path.read_bytes()
    repository.delete_artifacts("model")
    assert repository.list_artifacts() == []
