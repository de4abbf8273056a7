"""What every artifact store promises, on a folder and on a real S3."""

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Callable

import pytest

from tracking.artifact_paths import INCOMING, ArtifactPath, InvalidArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifact_uris import parse_artifact_uri
from tracking.artifacts import (
    ABANDONED_AFTER_MS,
    ArtifactChanged,
    ArtifactInTheWay,
    ArtifactIsFolder,
    ArtifactNotFound,
    ArtifactStore,
    StoreUnavailable,
    TooManyUploads,
    check_store,
    list_all,
    manifest_by_reading,
)
from tracking.errors import InvalidParameter
from tracking.filters import InvalidPageToken
from tracking.folder_artifacts import FolderArtifactStore
from tracking.manifest import FileDigest
from tracking.s3_artifacts import S3ArtifactStore
from tracking.s3_client import S3Settings, S3SettingsUnusable

PATH = ArtifactPath.parse
FAR_FUTURE_MS = 2**45


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.e2e)])
def store(request, tmp_path) -> ArtifactStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "artifacts"), {})
    environment = request.getfixturevalue("s3_environment")
    return open_store(f"s3://titlebout-test/{uuid.uuid4().hex}", environment)


def put(store: ArtifactStore, path: str, content: bytes = b"x") -> FileDigest:
    with store.upload(PATH(path)) as upload:
        upload.write(content)
        digest = upload.finish()
        upload.publish()
    return digest


def content(store: ArtifactStore, path: str, start: int = 0, stop: int | None = None) -> bytes:
    with store.open(PATH(path)) as reader:
        return b"".join(reader.chunks(start, stop))


def names(store: ArtifactStore, folder: str | None = None) -> list[tuple[str, bool, int | None]]:
    return [(entry.name, entry.is_dir, entry.size) for entry in list_all(store, PATH(folder) if folder else None)]


def test_what_is_put_is_read_back_and_its_digest_is_known(store):
    data = os.urandom(3_000_000)
    assert put(store, "1/run/artifacts/model.bin", data) == FileDigest(hashlib.sha256(data).hexdigest(), len(data))
    assert content(store, "1/run/artifacts/model.bin") == data
    assert content(store, "1/run/artifacts/model.bin", 10, 20) == data[10:20]
    assert content(store, "1/run/artifacts/model.bin", 2_999_990) == data[-10:]
    assert content(store, "1/run/artifacts/model.bin", 5, 5) == b""


def test_a_file_larger_than_a_part_is_read_back(store):
    data = os.urandom(1024 * 1024)
    with store.upload(PATH("big")) as upload:
        for _ in range(20):
            upload.write(data)
        digest = upload.finish()
        with pytest.raises(ArtifactNotFound):
            store.stat(PATH("big"))
        upload.publish()
    assert digest.size == 20 * 1024 * 1024
    with store.open(PATH("big")) as reader:
        assert hashlib.sha256(b"".join(reader.chunks())).hexdigest() == digest.sha256


def test_an_empty_file_is_a_file(store):
    put(store, "a/empty", b"")
    assert content(store, "a/empty") == b""
    assert names(store, "a") == [("empty", False, 0)]


@pytest.mark.parametrize("name", ["日本#1%.txt", "a b+c&d=e?.txt", "50%25.txt", "'\"<>|*", "é" * 127])
def test_any_storable_name_survives(store, name):
    put(store, f"run/{name}", b"content")
    assert content(store, f"run/{name}") == b"content"
    assert names(store, "run") == [(name, False, 7)]
    assert [stored.path for stored in store.walk(PATH("run"))] == [PATH(f"run/{name}")]
    store.delete(PATH(f"run/{name}"))
    assert names(store, "run") == []


def test_a_later_upload_takes_the_place_of_an_earlier_one(store):
    put(store, "a", b"old")
    put(store, "a", b"newer")
    assert content(store, "a") == b"newer"


def test_an_upload_that_breaks_off_leaves_nothing_visible(store):
    def break_off(bytes_sent: int) -> None:
        with store.upload(PATH("a/b")) as upload:
            for _ in range(bytes_sent // 1_000_000):
                upload.write(b"x" * 1_000_000)
            raise ConnectionError

    for bytes_sent in (1_000_000, 18_000_000):
        with pytest.raises(ConnectionError):
            break_off(bytes_sent)
    assert names(store) == []
    assert list(store.walk(None)) == []
    assert store.sweep(FAR_FUTURE_MS) == 0


def test_an_upload_that_breaks_off_keeps_the_file_that_was_there(store):
    put(store, "a", b"good")
    with store.upload(PATH("a")) as upload:
        upload.write(b"half")
    assert content(store, "a") == b"good"


def test_a_folder_is_listed_one_level_at_a_time(store):
    for path in ("m/MLmodel", "m/data/model.pth", "m/data/deep/x", "m-2/MLmodel", "top"):
        put(store, path)
    assert names(store) == [("m", True, None), ("m-2", True, None), ("top", False, 1)]
    assert names(store, "m") == [("MLmodel", False, 1), ("data", True, None)]
    assert names(store, "m/MLmodel") == []
    assert names(store, "nothing/here") == []


def test_a_long_folder_comes_in_pages_that_miss_and_repeat_nothing(store):
    expected = [f"{number:03d}" for number in range(25)]
    for name in reversed(expected):
        put(store, f"f/{name}")
    found, token = [], None
    for _ in range(3):
        page = store.list_folder(PATH("f"), token=token, limit=10)
        assert len(page.entries) <= 10
        found += [entry.name for entry in page.entries]
        token = page.next_token
    assert token is None
    assert found == expected


def test_walking_finds_every_file_below(store):
    for path in ("m/a", "m/b/c", "m/b/d/e", "m2/f"):
        put(store, path, b"12")
    assert {(str(stored.path), stored.size) for stored in store.walk(PATH("m"))} == {
        ("m/a", 2),
        ("m/b/c", 2),
        ("m/b/d/e", 2),
    }
    assert len(list(store.walk(None))) == 4
    assert list(store.walk(PATH("m/a"))) == []
    assert list(store.walk(PATH("absent"))) == []


def test_stat_tells_files_folders_and_nothing(store):
    put(store, "m/a", b"123")
    assert (store.stat(PATH("m/a")).is_dir, store.stat(PATH("m/a")).size) == (False, 3)
    assert store.stat(PATH("m")).is_dir
    for absent in ("m/b", "m/a/b", "n", "m/" + "x" * 255):
        with pytest.raises(ArtifactNotFound):
            store.stat(PATH(absent))


def test_opening_a_folder_or_nothing_is_said_apart(store):
    put(store, "m/a")
    with pytest.raises(ArtifactIsFolder, match="is a folder"):
        content(store, "m")
    with pytest.raises(ArtifactNotFound, match="There is no artifact 'm/b'"):
        content(store, "m/b")


def test_deleting_removes_a_file_or_a_tree_and_nothing_else(store):
    for path in ("m/a", "m/b/c", "m/b/d", "mm/e"):
        put(store, path)
    store.delete(PATH("m/a"))
    assert names(store, "m") == [("b", True, None)]
    store.delete(PATH("m"))
    store.delete(PATH("m"))
    assert [str(stored.path) for stored in store.walk(None)] == ["mm/e"]


def test_a_large_folder_is_deleted_in_steps(store):
    for number in range(25):
        put(store, f"m/{number % 3}/{number}")
    put(store, "mm/e")
    left = []
    while store.delete_some(PATH("m"), 10):
        left.append(len(list(store.walk(PATH("m")))))
    assert left == sorted(left, reverse=True)
    assert left
    assert [str(stored.path) for stored in store.walk(None)] == ["mm/e"]
    assert not store.delete_some(PATH("m"), 10)


def test_a_manifest_by_reading_hashes_every_file(store):
    put(store, "m/MLmodel", b"flavors")
    put(store, "m/data/w", b"weights")
    manifest = manifest_by_reading(store, PATH("m"))
    assert manifest is not None
    assert manifest.files == {
        PATH("MLmodel"): FileDigest(hashlib.sha256(b"flavors").hexdigest(), 7),
        PATH("data/w"): FileDigest(hashlib.sha256(b"weights").hexdigest(), 7),
    }
    assert manifest_by_reading(store, PATH("absent")) is None


def test_a_checked_store_reports_each_step_and_is_left_as_it_was(store):
    put(store, "a")
    steps = list(check_store(store))
    assert [(step.name, step.ok) for step in steps] == [
        ("reach", True),
        ("list", True),
        ("write", True),
        ("read", True),
        ("delete", True),
    ]
    assert names(store) == [("a", False, 1)]


def test_a_uri_below_the_root_is_located(store):
    assert store.locate(parse_artifact_uri(store.uri + "/1/run")) == PATH("1/run")
    assert store.locate(parse_artifact_uri("mlflow-artifacts:/1/run")) == PATH("1/run")
    for elsewhere in (store.uri, store.uri + "x/1", "s3://elsewhere/1", "file:///elsewhere/1", "runs:/a/b"):
        assert store.locate(parse_artifact_uri(elsewhere)) is None


def test_uploads_of_one_file_at_once_leave_one_of_them_whole(store):
    contents = [bytes([65 + number]) * 200_000 for number in range(4)]
    run_together([lambda data=data: put(store, "shared/file", data) for data in contents])
    assert content(store, "shared/file") in contents


def test_uploads_and_deletes_in_one_folder_don_t_disturb_each_other(store):
    def put_and_delete(number: int) -> None:
        for _ in range(20):
            put(store, f"folder/{number}")
            store.delete(PATH(f"folder/{number}"))
        put(store, f"folder/{number}")

    run_together([lambda number=number: put_and_delete(number) for number in range(4)])
    assert names(store, "folder") == [(str(number), False, 1) for number in range(4)]


def run_together(actions: list[Callable[[], object]]) -> None:
    failures: list[BaseException] = []

    def run(action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- a folder alone


@pytest.fixture
def folder_store(tmp_path) -> FolderArtifactStore:
    return FolderArtifactStore(tmp_path / "artifacts")


def test_a_link_in_the_folder_leads_nowhere(folder_store, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    put(folder_store, "run/a")
    (folder_store.root / "run/out").symlink_to(secret)
    (folder_store.root / "run/file").symlink_to(secret / "file")

    for path in ("run/out/file", "run/file"):
        with pytest.raises(ArtifactNotFound):
            content(folder_store, path)
    with pytest.raises(ArtifactInTheWay):
        put(folder_store, "run/out/new")
    assert names(folder_store, "run") == [("a", False, 1)]
    assert names(folder_store, "run/out") == []
    assert [str(stored.path) for stored in folder_store.walk(None)] == ["run/a"]
    put(folder_store, "run/file", b"ours")  # takes the link's place, not its target's
    folder_store.delete(PATH("run"))
    assert (secret / "file").read_text() == "secret"


def test_no_empty_folder_is_left_behind(folder_store):
    put(folder_store, "1/run/artifacts/a")
    put(folder_store, "1/b")
    folder_store.delete(PATH("1/run/artifacts/a"))
    assert names(folder_store, "1") == [("b", False, 1)]


def test_a_page_token_that_no_page_gave_is_refused(folder_store):
    with pytest.raises(InvalidPageToken):
        folder_store.list_folder(None, token="../\0")


def test_a_pipe_in_the_folder_is_not_a_file(folder_store):
    put(folder_store, "a")
    os.mkfifo(folder_store.root / "pipe")
    with pytest.raises(ArtifactNotFound):
        content(folder_store, "pipe")


def test_a_file_where_a_folder_is_needed_is_named_and_the_other_way_round(folder_store):
    put(folder_store, "a/b")
    with pytest.raises(ArtifactInTheWay, match="it is a folder"):
        put(folder_store, "a")
    with pytest.raises(ArtifactInTheWay, match="a part of its path is a file"):
        put(folder_store, "a/b/c")
    assert folder_store.sweep(FAR_FUTURE_MS) == 0


def test_a_dead_upload_is_swept_and_a_live_one_is_not(folder_store):
    with folder_store.upload(PATH("live")) as upload:
        (folder_store.root / INCOMING / "dead").write_bytes(b"half")
        newest_ms = int((folder_store.root / INCOMING / "dead").stat().st_mtime * 1000)
        assert folder_store.sweep(newest_ms) == 0
        assert folder_store.sweep(FAR_FUTURE_MS) == 1
        upload.write(b"all of it")
        upload.finish()
        upload.publish()
    assert content(folder_store, "live") == b"all of it"
    assert list((folder_store.root / INCOMING).iterdir()) == []


def test_a_name_that_nobody_could_ask_for_is_not_listed_and_stops_a_walk(folder_store):
    put(folder_store, "run/a")
    (folder_store.root / "run/back\\slash").write_text("x")
    (folder_store.root / "run" / os.fsdecode(b"not-utf8-\xff")).write_text("x")
    assert names(folder_store, "run") == [("a", False, 1)]
    with pytest.raises(InvalidArtifactPath):
        list(folder_store.walk(PATH("run")))


def test_a_file_that_shrinks_while_it_is_read_is_noticed(folder_store):
    put(folder_store, "a", b"x" * 100)
    with folder_store.open(PATH("a")) as reader:
        os.truncate(folder_store.root / "a", 10)
        with pytest.raises(ArtifactChanged):
            list(reader.chunks())


def test_a_root_that_can_t_be_made_fails_the_first_step_with_its_cause(tmp_path):
    (tmp_path / "file").write_text("in the way")
    steps = list(check_store(FolderArtifactStore(tmp_path / "file" / "artifacts")))
    assert [(step.name, step.ok) for step in steps] == [("reach", False)]
    assert "Not a directory" in steps[0].detail


@pytest.mark.parametrize("root", ["http://host/x", "mlflow-artifacts:/x", "runs:/x/y", "s3://", "gs://bucket"])
def test_a_root_of_another_kind_is_refused(root):
    with pytest.raises(InvalidParameter):
        open_store(root, {})


# --- S3 alone


@pytest.mark.e2e
def test_a_file_replaced_while_it_is_read_is_noticed(s3_environment):
    store = open_store(f"s3://titlebout-test/{uuid.uuid4().hex}", s3_environment)
    put(store, "a", b"old")
    with store.open(PATH("a")) as reader:
        put(store, "a", b"new")
        with pytest.raises(ArtifactChanged):
            list(reader.chunks())


@pytest.mark.e2e
def test_an_abandoned_multipart_upload_is_swept_after_a_day(s3_environment):
    store = open_store(f"s3://titlebout-test/{uuid.uuid4().hex}", s3_environment)
    assert isinstance(store, S3ArtifactStore)
    begun = store.client.create_multipart_upload(Bucket=store.bucket, Key=store.key(PATH("a")))
    listed = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=f"{store.prefix}/")["Uploads"]
    begun_ms = int(listed[0]["Initiated"].timestamp() * 1000)
    assert listed[0]["UploadId"] == begun["UploadId"]
    assert store.sweep(begun_ms + ABANDONED_AFTER_MS - 1) == 0
    assert store.sweep(begun_ms + ABANDONED_AFTER_MS + 1) == 1
    assert store.sweep(FAR_FUTURE_MS) == 0


@pytest.mark.e2e
def test_a_console_s_folder_marker_is_not_a_file(s3_environment):
    store = open_store(f"s3://titlebout-test/{uuid.uuid4().hex}", s3_environment)
    assert isinstance(store, S3ArtifactStore)
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}/run/", Body=b"")
    put(store, "run/a")
    assert names(store, "run") == [("a", False, 1)]
    assert [str(stored.path) for stored in store.walk(PATH("run"))] == ["run/a"]


@pytest.mark.e2e
def test_a_bucket_that_is_not_there_fails_the_first_step(s3_environment):
    steps = list(check_store(open_store("s3://titlebout-absent/prefix", s3_environment)))
    assert [(step.name, step.ok) for step in steps] == [("reach", False)]
    assert "404" in steps[0].detail
    assert "s3://titlebout-absent/prefix" in steps[0].detail


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (S3Settings(region="us-east-1", access_key_id="x"), "aws_secret_access_key"),
        (S3Settings(region="us-east-1", endpoint_url="no address"), "no address"),
        (S3Settings(region="no region!"), "no region!"),
    ],
    ids=["half of the credentials", "bad endpoint", "bad region"],
)
def test_settings_that_no_s3_could_be_reached_with_are_refused_by_name(settings, named):
    with pytest.raises(S3SettingsUnusable, match=re.escape(named)):
        S3ArtifactStore("bucket", None, settings)


def test_an_s3_that_can_t_be_reached_is_unavailable_and_soon():
    settings = S3Settings(
        endpoint_url="http://127.0.0.1:9", region="us-east-1", access_key_id="x", secret_access_key="x", attempts_max=1
    )
    store = S3ArtifactStore("bucket", None, settings)
    with pytest.raises(StoreUnavailable) as caught:
        put(store, "a")
    assert "127.0.0.1" not in caught.value.message
    with pytest.raises(StoreUnavailable):
        store.stat(PATH("a"))
    assert not next(check_store(store)).ok


def test_more_uploads_than_there_is_memory_for_are_refused():
    settings = S3Settings(region="us-east-1", access_key_id="x", secret_access_key="x", uploads_max=2)
    store = S3ArtifactStore("bucket", None, settings)
    with store.upload(PATH("a")), store.upload(PATH("b")):
        with pytest.raises(TooManyUploads):
            store.upload(PATH("c"))
    store.upload(PATH("c")).close()


def test_s3_settings_come_from_aws_s_variables_and_mlflow_s():
    settings = S3Settings.from_environment(
        {"MLFLOW_S3_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "eu-west-1", "MLFLOW_S3_IGNORE_TLS": "true"}
    )
    assert (settings.endpoint_url, settings.region, settings.verify_tls) == ("http://minio:9000", "eu-west-1", False)
    assert S3Settings.from_environment({}).endpoint_url is None
