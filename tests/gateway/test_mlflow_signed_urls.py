"""Past the proxy: what MLflow's own client sends to S3 and takes from it by URLs that we sign."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import mlflow
import msgspec
import pytest
import requests
from mlflow.artifacts import download_artifacts
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from gateway.settings import Settings
from tests.conftest import running_api
from tests.guide.served import wait_until_served
from tests.training import constant_classifier, register, set_alias
from tracking import artifact_records, runs
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.database import Database
from tracking.entities import RunInfo
from tracking.manifest import FileDigest, Manifest
from tracking.s3_artifacts import S3ArtifactStore

MPU = "/api/2.0/mlflow-artifacts/mpu"
SIGNED = "/api/2.0/mlflow-artifacts/presigned"
UPLOAD_URL = "/api/2.0/mlflow/artifacts/presigned-upload-url"
DOWNLOAD_URL = "/api/2.0/mlflow/artifacts/presigned-download-url"
PART_BYTES = 5 * 1024**2

pytestmark = [
    pytest.mark.e2e,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def reachable_s3(s3_environment) -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment.items():
            patch.setenv(name, value)
        yield s3_environment


@pytest.fixture(scope="module")
def settings(tmp_path_factory, reachable_s3) -> Settings:
    """Of one server for all tests here, each of which has a run or a folder of its own."""
    data = tmp_path_factory.mktemp("signed") / "data"
    return Settings(data=str(data), artifact_root=f"s3://titlebout-test/{uuid.uuid4().hex}", presigned=True)


@pytest.fixture(scope="module")
def store(settings) -> S3ArtifactStore:
    store = open_store(settings.artifacts)
    assert isinstance(store, S3ArtifactStore)
    return store


@pytest.fixture(scope="module")
def url(settings) -> Iterator[str]:
    with running_api(settings) as url:
        yield url


@pytest.fixture(scope="module")
def client(url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def database(settings, url) -> Iterator[Database]:
    database = Database(settings.database)
    yield database
    database.dispose()


@pytest.fixture
def run(database) -> RunInfo:
    with database.writing() as session:
        return runs.create_run(session, "0", start_time_ms=1).info


@pytest.fixture
def large_files(monkeypatch) -> None:
    """The client takes what is over this for large, and sends it in parts of the least size that S3 takes."""
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(PART_BYTES))
    monkeypatch.setenv("MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE", str(PART_BYTES))


def root_of(run: RunInfo) -> ArtifactPath:
    return ArtifactPath.parse(run.artifact_uri.removeprefix("mlflow-artifacts:/"))


def freeze(database: Database, folder: ArtifactPath) -> None:
    with database.writing() as session:
        manifest = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("0" * 64, 1)})
        artifact_records.freeze(session, folder, "registered as iris version 3", manifest)


def content(store: S3ArtifactStore, path: ArtifactPath) -> bytes:
    with store.open(path) as reader:
        return b"".join(reader.chunks())


def folder_below(parent: Path) -> Path:
    folder = parent / "fetched"
    folder.mkdir()
    return folder


def part_count(store: S3ArtifactStore, path: ArtifactPath) -> str:
    """S3 puts it after a hyphen into the ETag of what came in parts."""
    etag = store.client.head_object(Bucket=store.bucket, Key=store.key(path))["ETag"]
    return etag.strip('"').partition("-")[2]


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, str]]:
    """(method, URL without its query) of each request that the client sends."""
    sent: list[tuple[str, str]] = []
    send = requests.Session.send

    def noted(session, request, **options):
        sent.append((request.method, request.url.partition("?")[0]))
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", noted)
    return sent


def test_the_client_sends_a_large_file_to_s3_in_parts_and_takes_it_from_there(
    url, store, run, large_files, sent, reachable_s3, tmp_path
):
    data = os.urandom(2 * PART_BYTES + 1000)
    (tmp_path / "weights.bin").write_bytes(data)
    repository = MlflowArtifactsRepository(run.artifact_uri, tracking_uri=url)
    repository.log_artifact(str(tmp_path / "weights.bin"), "model/data")

    path = root_of(run) / ArtifactPath.parse("model/data/weights.bin")
    # The proxy's parts are larger: it would have made two of it.
    assert part_count(store, path) == "3"
    head = store.client.head_object(Bucket=store.bucket, Key=store.key(path))
    assert head["ServerSideEncryption"] == "AES256"
    fetched = Path(repository.download_artifacts("model", str(folder_below(tmp_path))))
    assert (fetched / "data/weights.bin").read_bytes() == data
    # The bytes went past us, both ways.
    past_us = [method for method, where in sent if where.startswith(reachable_s3["AWS_ENDPOINT_URL_S3"])]
    assert set(past_us) == {"PUT", "GET"}
    through_us = {where for _, where in sent if where.startswith(f"{url}/api/2.0/mlflow-artifacts/artifacts/")}
    assert not through_us


@pytest.mark.parametrize("name", ["50% of it.txt", "a b+c&d=e.txt", "日本.txt", "empty"])
def test_the_client_finds_any_name_again(url, run, large_files, tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name == "empty" else b"content")
    repository = MlflowArtifactsRepository(run.artifact_uri, tracking_uri=url)
    repository.log_artifact(str(tmp_path / name))
    fetched = repository.download_artifacts(name, str(folder_below(tmp_path)))
    assert Path(fetched).read_bytes() == (tmp_path / name).read_bytes()


def test_the_proxy_is_what_is_left_where_nothing_is_signed(api_server, large_files, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    (tmp_path / "a.bin").write_bytes(b"content")
    repository = MlflowArtifactsRepository("mlflow-artifacts:/1/run", tracking_uri=api_server)
    repository.log_artifact(str(tmp_path / "a.bin"))
    fetched = repository.download_artifacts("a.bin", str(folder_below(tmp_path)))
    assert Path(fetched).read_bytes() == b"content"
    answer = httpx.post(f"{api_server}{MPU}/create/1/run", json={"path": "a", "num_parts": 1})
    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "TITLEBOUT_PRESIGNED" in answer.json()["message"]


@pytest.mark.parametrize(("presigned", "says"), [(True, True), (False, False)])
def test_the_server_says_whether_it_signs(settings, presigned, says):
    with running_api(msgspec.structs.replace(settings, presigned=presigned)) as url:
        info = httpx.get(f"{url}/api/3.0/mlflow/server-info").json()
    assert [
        info[name]
        for name in (
            "multipart_uploads_enabled",
            "multipart_downloads_enabled",
            "presigned_upload_run_id_supported",
            "presigned_upload_model_id_supported",
        )
    ] == [says] * 4


def begin(client: httpx.Client, folder: ArtifactPath, name: str, parts: list[bytes]) -> dict[str, object]:
    """Send all parts, and say how to complete them."""
    begun = client.post(f"{MPU}/create/{folder}", json={"path": f"C:\\x\\{name}", "num_parts": len(parts)}).json()
    sent = []
    for credential, part in zip(begun["credentials"], parts, strict=True):
        answer = httpx.put(credential["url"], content=part, headers=credential["headers"])
        assert answer.is_success
        sent.append({"part_number": credential["part_number"], "etag": answer.headers["etag"]})
    return {"path": name, "upload_id": begun["upload_id"], "parts": sent}


def test_nothing_gets_into_a_frozen_folder(client, store, database, run):
    folder = root_of(run) / ArtifactPath.parse("model")
    completion = begin(client, folder, "MLmodel", [b"changed"])
    freeze(database, folder)

    refused = [
        client.post(f"{MPU}/complete/{folder}", json=completion),
        client.post(f"{MPU}/create/{folder}", json={"path": "MLmodel", "num_parts": 1}),
        client.post(UPLOAD_URL, json={"run_id": run.run_id, "path": "model/MLmodel"}),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert "registered as iris version 3: log the change as a new version" in answer.json()["message"]
    assert list(store.walk(folder)) == []
    assert (
        client.post(f"{MPU}/abort/{folder}", json={"path": "MLmodel", "upload_id": completion["upload_id"]}).json()
        == {}
    )
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=store.key(folder))


def test_the_client_is_told_once_that_a_folder_is_frozen(url, database, run, large_files, tmp_path):
    freeze(database, root_of(run))
    (tmp_path / "MLmodel").write_text("flavors: {}")
    repository = MlflowArtifactsRepository(run.artifact_uri, tracking_uri=url)
    began = time.monotonic()
    with pytest.raises(Exception, match="registered as iris version 3"):
        repository.log_artifact(str(tmp_path / "MLmodel"))
    assert time.monotonic() - began < 60


def test_parts_that_are_not_its_own_make_no_file(client, store, run):
    folder = root_of(run)
    good = begin(client, folder, "a", [b"one"])
    wrong_part = {**good, "parts": [{"part_number": 1, "etag": '"0"'}]}
    assert client.post(f"{MPU}/complete/{folder}", json=wrong_part).status_code == 400
    assert client.post(f"{MPU}/complete/{folder}", json={**good, "path": "b"}).status_code == 404
    assert client.post(f"{MPU}/complete/{folder}", json={**good, "upload_id": "none"}).status_code == 404
    assert list(store.walk(folder)) == []
    assert client.post(f"{MPU}/complete/{folder}", json=good).json() == {}
    assert content(store, folder / ArtifactPath.parse("a")) == b"one"


@pytest.mark.parametrize("upload_id", ["", "a\0b", "x" * 1_025])
def test_an_upload_that_s3_can_t_have_is_400_and_no_file_is_touched(client, run, upload_id):
    folder = root_of(run)
    file = f"/api/2.0/mlflow-artifacts/artifacts/{folder}/a"
    client.put(file, content=b"kept")
    for step in ("complete", "abort"):
        answer = client.post(f"{MPU}/{step}/{folder}", json={"path": "a", "upload_id": upload_id, "parts": []})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert client.get(file).content == b"kept"


@pytest.mark.parametrize("count", [0, 10_001, "x", -1])
def test_a_number_of_parts_that_s3_doesn_t_take_is_400(client, run, count):
    answer = client.post(f"{MPU}/create/{root_of(run)}", json={"path": "a", "num_parts": count})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("name", ["..", "", "a/", "a\0b", "x" * 256])
def test_a_name_that_leads_elsewhere_is_400(client, run, name):
    assert client.post(f"{MPU}/create/{root_of(run)}", json={"path": name, "num_parts": 1}).status_code == 400
    assert client.post(UPLOAD_URL, json={"run_id": run.run_id, "path": name}).status_code == 400


def test_a_file_over_the_limit_is_dropped_when_its_parts_have_come(settings):
    with (
        running_api(msgspec.structs.replace(settings, artifact_bytes_max=10)) as url,
        httpx.Client(base_url=url) as client,
    ):
        completion = begin(client, ArtifactPath.parse("1/x"), "a", [bytes(11)])
        answer = client.post(f"{MPU}/complete/1/x", json=completion)
        assert (answer.status_code, answer.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")
        assert client.post(f"{MPU}/complete/1/x", json=completion).status_code == 404


def test_a_file_of_a_run_is_put_and_got_by_signed_urls(client, store, database, run):
    signed = client.post(UPLOAD_URL, json={"run_id": run.run_id, "path": "plots/a.png"}).json()
    assert httpx.put(signed["presigned_url"], content=b"png", headers=signed["headers"]).is_success
    path = root_of(run) / ArtifactPath.parse("plots/a.png")
    assert content(store, path) == b"png"
    assert store.client.head_object(Bucket=store.bucket, Key=store.key(path))["ServerSideEncryption"] == "AES256"
    # Another key, or less encryption, is not what was signed.
    assert (
        httpx.put(
            signed["presigned_url"].replace("a.png", "b.png"), content=b"x", headers=signed["headers"]
        ).status_code
        == 403
    )

    for got in (
        client.post(DOWNLOAD_URL, json={"run_id": run.run_id, "path": "plots/a.png", "expiration": "60"}).json(),
        {**(answer := client.get(f"{SIGNED}/{path}").json()), "presigned_url": answer["url"]},
    ):
        file = httpx.get(got["presigned_url"], headers=got["headers"])
        assert (file.content, got["file_size"]) == (b"png", 3)
        assert file.headers["content-disposition"].startswith("attachment")
        assert file.headers["content-type"] == "application/octet-stream"
    with database.reading() as session:
        assert artifact_records.find_digest(session, path) is None


def test_a_signed_url_lives_as_long_as_was_asked_but_no_longer_than_the_setting(client, run):
    def life(**asked: object) -> str:
        signed = client.post(UPLOAD_URL, json={"run_id": run.run_id, "path": "a", **asked}).json()
        return parse_qs(urlsplit(signed["presigned_url"]).query)["X-Amz-Expires"][0]

    assert [life(), life(expiration=60), life(expiration=604_800)] == ["300", "60", "300"]
    for wrong in (0, -1, 604_801, "soon"):
        assert client.post(UPLOAD_URL, json={"run_id": run.run_id, "path": "a", "expiration": wrong}).status_code == 400


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"path": "a"}, 400),
        ({"run_id": "absent", "path": "a"}, 404),
        ({"model_id": "m-absent", "path": "a"}, 404),
        ({"run_id": "r", "model_id": "m", "path": "a"}, 400),
        ({"run_id": "r"}, 400),
    ],
)
def test_a_url_is_signed_for_one_owner_that_exists(client, asked, status):
    answer = client.post(UPLOAD_URL, json=asked)
    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}


def test_a_range_of_a_file_in_s3_comes_through_the_proxy_alone(client, run):
    path = f"/api/2.0/mlflow-artifacts/artifacts/{root_of(run)}/a"
    data = os.urandom(9 * 1024**2)
    assert client.put(path, content=data).is_success
    etag = client.get(path, headers={"Range": "bytes=0-0"}).headers["etag"]
    for asked, start, stop in [
        ("bytes=2-4", 2, 5),
        ("bytes=8388600-8388700", 8388600, 8388701),
        ("bytes=-10", -10, None),
    ]:
        part = client.get(path, headers={"Range": asked, "If-Range": etag})
        assert (part.status_code, part.content) == (206, data[start:stop])
    assert client.get(path, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    client.put(path, content=b"another file")
    assert client.get(path, headers={"Range": "bytes=2-4", "If-Range": etag}).content == b"another file"


def test_what_is_not_there_or_is_a_folder_is_not_signed(client, store, run):
    with store.upload(root_of(run) / ArtifactPath.parse("folder/a")) as upload:
        upload.finish()
        upload.publish()
    for path in ("folder", "absent"):
        assert client.get(f"{SIGNED}/{root_of(run)}/{path}").status_code == 404
        assert client.post(DOWNLOAD_URL, json={"run_id": run.run_id, "path": path}).status_code == 404


# --- a model, from the first byte to the refusal of a changed one


def change_a_byte(store: S3ArtifactStore, folder: ArtifactPath, name: str) -> None:
    """In the bucket itself, past everything of ours."""
    changed = bytearray(content(store, folder / ArtifactPath.parse(name)))
    changed[len(changed) // 2] ^= 1
    store.client.put_object(Bucket=store.bucket, Key=store.key(folder / ArtifactPath.parse(name)), Body=bytes(changed))


def reason_of_failure(url: str, name: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        status = httpx.get(f"{url}/api/1.0/titlebout/status").text
        if "FAILED" in status:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["presigned", "direct"])
def test_a_model_that_came_past_us_is_served_and_refused_once_changed(
    serve: Callable[..., object], settings, store, large_files, monkeypatch, tmp_path, reachable_s3, way
):
    options = ["--artifact-root", settings.artifacts, "--database-url", f"sqlite:///{tmp_path}/shared.db"]
    options += ["--artifact-mode", "direct"] if way == "direct" else []
    environment = {**reachable_s3, "TITLEBOUT_PRESIGNED": "true"}
    # What the client itself needs in direct mode; MLflow has its own name for the endpoint.
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", reachable_s3["AWS_ENDPOINT_URL_S3"])

    first = serve(*options, environment=environment)
    version = register(first.url, "iris", constant_classifier(1), serialization_format="cloudpickle")
    set_alias(first.url, "iris", "champion", version)
    registered = mlflow.MlflowClient(first.url).get_model_version("iris", str(version))
    folder = ArtifactPath.parse(
        mlflow.MlflowClient(first.url)
        .get_model_version_download_uri("iris", str(version))
        .removeprefix("mlflow-artifacts:/")
    )
    experiment = mlflow.MlflowClient(first.url).get_experiment_by_name("tests")
    assert experiment.artifact_location.startswith(store.uri if way == "direct" else "mlflow-artifacts:/")
    assert registered.run_id
    wait_until_served(first.url, "iris", champion=version)
    # Only a load takes a digest of what came past us; from then on nobody changes the folder through us.
    refused = httpx.put(f"{first.url}/api/2.0/mlflow-artifacts/artifacts/{folder}/MLmodel", content=b"x")
    assert refused.status_code == 409
    local = Path(
        download_artifacts(f"models:/iris/{version}", dst_path=str(folder_below(tmp_path)), tracking_uri=first.url)
    )
    assert (local / "MLmodel").read_bytes() == content(store, folder / ArtifactPath.parse("MLmodel"))
    first.stop()

    change_a_byte(store, folder, "model.pkl")
    second = serve(*options, data=tmp_path / "second", environment=environment)
    assert "these are not the bytes that were registered" in reason_of_failure(second.url, "iris")
    assert httpx.post(f"{second.url}/invocations", json={"inputs": [[1, 2, 3, 4]]}).status_code >= 400
