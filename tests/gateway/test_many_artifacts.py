"""Folders of ten thousand files and trees of two thousand; in a real S3 as many as show the same."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow.artifacts import download_artifacts

from gateway.artifact_access import open_artifact_store
from gateway.settings import Settings
from tests.conftest import running_api
from tracking.artifact_paths import ArtifactPath

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
PAGE = "/api/2.0/mlflow/artifacts/list"
FILES = {"folder": 10_000, "s3": 1_500}
TREE_FILES = {"folder": 2_000, "s3": 200}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["folder", pytest.param("s3", marks=[pytest.mark.e2e, pytest.mark.slow])])
def kind(request) -> str:
    return request.param


@pytest.fixture
def settings(request, kind, tmp_path, monkeypatch) -> Settings:
    settings = {"data": str(tmp_path / "data")}
    if kind == "s3":
        for name, value in request.getfixturevalue("s3_environment").items():
            monkeypatch.setenv(name, value)
        settings["artifact_root"] = f"s3://titlebout-test/{tmp_path.name}"
    return Settings(**settings)


@pytest.fixture
def url(settings) -> Iterator[str]:
    with running_api(settings) as url:
        yield url


def fill(settings: Settings, folder: str, names: list[str]) -> None:
    if not settings.artifact_root:
        root = Path(settings.artifacts) / folder
        root.mkdir(parents=True)
        for name in names:
            (root / name).write_bytes(b"x")
        return
    store = open_artifact_store(settings)

    def put(name: str) -> None:
        with store.upload(ArtifactPath.parse(f"{folder}/{name}")) as upload:
            upload.write(b"x")
            upload.finish()
            upload.publish()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(put, names))


def test_a_folder_of_thousands_of_files_is_listed_in_pages_and_whole(kind, settings, url):
    run = mlflow.MlflowClient(url).create_run("0").info
    folder = f"{run.artifact_uri.removeprefix('mlflow-artifacts:/')}/many"
    names = [f"f{number:05d}" for number in range(FILES[kind])]
    fill(settings, folder, names)

    found, sizes, token, slowest_s = [], [], None, 0.0
    with httpx.Client(base_url=url, timeout=60) as client:
        while token is not None or not found:
            began = time.monotonic()
            page = client.get(PAGE, params={"run_id": run.run_id, "path": "many", "page_token": token or ""}).json()
            slowest_s = max(slowest_s, time.monotonic() - began)
            found += [entry["path"] for entry in page["files"]]
            sizes.append(len(page["files"]))
            token = page.get("next_page_token")
        began = time.monotonic()
        whole = client.get(PROXY, params={"path": folder}).json()["files"]
        whole_s = time.monotonic() - began
    assert found == [f"many/{name}" for name in names]
    assert sizes == [1_000] * (len(names) // 1_000) + [500] * (kind == "s3")
    assert [entry["path"] for entry in whole] == names
    print(f"{len(names)} names: slowest page {slowest_s * 1000:.0f} ms, whole {whole_s * 1000:.0f} ms")


@pytest.mark.e2e
def test_the_client_fetches_a_tree_of_many_files(kind, url, tmp_path):
    source = tmp_path / "source"
    for number in range(TREE_FILES[kind]):
        file = source / f"{number % 20}/{number % 5}/{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(2_000))
    mlflow.set_tracking_uri(url)
    run = mlflow.MlflowClient(url).create_run("0").info
    began = time.monotonic()
    mlflow.MlflowClient(url).log_artifacts(run.run_id, str(source), "tree")
    logged = time.monotonic()
    (tmp_path / "fetched").mkdir()
    fetched = Path(download_artifacts(f"runs:/{run.run_id}/tree", dst_path=str(tmp_path / "fetched"), tracking_uri=url))
    downloaded = time.monotonic()
    files = [file for file in source.rglob("*") if file.is_file()]
    assert len([file for file in fetched.rglob("*") if file.is_file()]) == len(files) == TREE_FILES[kind]
    assert all((fetched / file.relative_to(source)).read_bytes() == file.read_bytes() for file in files)
    print(f"{len(files)} files: up in {logged - began:.1f} s, down in {downloaded - logged:.1f} s")
