import hashlib
import threading
from contextlib import suppress

import pytest

from tracking import artifact_records as records
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_records import ArtifactFrozen
from tracking.artifacts import ArtifactNotFound
from tracking.database import Database
from tracking.folder_artifacts import FolderArtifactStore
from tracking.manifest import FileDigest, Manifest

PATH = ArtifactPath.parse
NOW_MS = 1_700_000_000_000
LABEL = "registered as iris-classifier version 3"


@pytest.fixture
def store(tmp_path) -> FolderArtifactStore:
    return FolderArtifactStore(tmp_path / "artifacts")


def put(database: Database, store: FolderArtifactStore, path: str, content: bytes = b"x") -> FileDigest:
    with store.upload(PATH(path)) as upload:
        upload.write(content)
        upload.finish()
        with database.writing() as session:
            return records.publish_upload(session, upload, NOW_MS)


def freeze(database: Database, folder: str, label: str = LABEL) -> Manifest | None:
    with database.writing() as session:
        records.hold(session, PATH(folder))
        manifest = records.manifest_of(session, PATH(folder))
        if manifest is not None:
            records.freeze(session, PATH(folder), label, manifest)
    return manifest


def content(store: FolderArtifactStore, path: str) -> bytes:
    with store.open(PATH(path)) as reader:
        return b"".join(reader.chunks())


def test_an_uploaded_file_is_visible_and_its_digest_recorded(database, store):
    digest = put(database, store, "1/m/MLmodel", b"flavors")
    assert digest == FileDigest(hashlib.sha256(b"flavors").hexdigest(), 7)
    assert content(store, "1/m/MLmodel") == b"flavors"
    with database.reading() as session:
        assert records.find_digest(session, PATH("1/m/MLmodel")) == digest
        assert records.find_digest(session, PATH("1/m")) is None


def test_a_second_upload_replaces_the_record(database, store):
    put(database, store, "1/a", b"old")
    digest = put(database, store, "1/a", b"newer")
    with database.reading() as session:
        assert records.find_digest(session, PATH("1/a")) == digest


def test_a_manifest_holds_the_files_below_the_folder_and_no_neighbours(database, store):
    for path in ("1/m/MLmodel", "1/m/data/w", "1/m2/MLmodel", "1/m", "1/m-x/a", "1/m0"):
        with suppress(Exception):
            put(database, store, path)
    with database.reading() as session:
        manifest = records.manifest_of(session, PATH("1/m"))
        assert manifest is not None
        assert set(manifest.files) == {PATH("MLmodel"), PATH("data/w")}
        assert records.manifest_of(session, PATH("1/nothing")) is None


def test_an_upload_into_a_frozen_folder_is_refused_in_the_words_of_the_route(database, store):
    put(database, store, "1/m/MLmodel", b"flavors")
    freeze(database, "1/m")
    for path in ("1/m/MLmodel", "1/m/new", "1/m/data/new"):
        with pytest.raises(ArtifactFrozen) as caught:
            put(database, store, path, b"changed")
        assert "registered as iris-classifier version 3: log the change as a new version" in caught.value.message
    assert content(store, "1/m/MLmodel") == b"flavors"
    assert len(list(store.walk(None))) == 1


def test_what_is_outside_a_frozen_folder_can_still_be_written(database, store):
    put(database, store, "1/m/MLmodel")
    freeze(database, "1/m")
    for path in ("1/other", "1/m2/MLmodel", "1/mm", "2/m/MLmodel"):
        put(database, store, path)


@pytest.mark.parametrize("path", ["1/m/MLmodel", "1/m", "1", "1/m/absent"])
def test_nothing_frozen_is_deleted_with_whatever_holds_it(database, store, path):
    put(database, store, "1/m/MLmodel")
    put(database, store, "1/other")
    freeze(database, "1/m")
    with pytest.raises(ArtifactFrozen), database.writing() as session:
        records.delete_artifact(session, store, PATH(path))
    assert len(list(store.walk(None))) == 2


def test_deleting_takes_files_and_records(database, store):
    for path in ("1/m/a", "1/m/b/c", "1/mm"):
        put(database, store, path)
    with database.writing() as session:
        records.delete_artifact(session, store, PATH("1/m"))
    assert [str(stored.path) for stored in store.walk(None)] == ["1/mm"]
    with database.reading() as session:
        assert records.manifest_of(session, PATH("1/m")) is None
        assert records.find_digest(session, PATH("1/mm")) is not None


def test_a_folder_stays_frozen_until_its_last_version_is_gone(database, store):
    put(database, store, "1/m/MLmodel")
    freeze(database, "1/m", "registered as a version 1")
    freeze(database, "1/m", "registered as b version 1")
    with database.writing() as session:
        records.unfreeze(session, PATH("1/m"), "registered as a version 1")
        assert records.frozen_labels(session, PATH("1/m")) == ["registered as b version 1"]
    with pytest.raises(ArtifactFrozen, match="registered as b version 1"):
        put(database, store, "1/m/MLmodel")
    with database.writing() as session:
        records.unfreeze(session, PATH("1/m"), "registered as b version 1")
    put(database, store, "1/m/MLmodel")


def test_a_file_that_may_come_past_us_has_no_digest_until_it_is_uploaded_again(database, store):
    put(database, store, "1/m/MLmodel")
    with database.writing() as session:
        records.expect_unread(session, PATH("1/m/MLmodel"), 1)
    with database.reading() as session:
        assert records.find_digest(session, PATH("1/m/MLmodel")) is None
        assert records.manifest_of(session, PATH("1/m")) is None
        assert records.known_below(session, PATH("1/m")) is None
    digest = put(database, store, "1/m/MLmodel")
    with database.reading() as session:
        assert records.find_digest(session, PATH("1/m/MLmodel")) == digest
        assert records.manifest_of(session, PATH("1/m")) == Manifest({PATH("MLmodel"): digest})


def test_nothing_is_expected_in_a_frozen_folder(database, store):
    put(database, store, "1/m/MLmodel")
    freeze(database, "1/m")
    with database.writing() as session, pytest.raises(ArtifactFrozen):
        records.expect_unread(session, PATH("1/m/weights"), 1)


def test_the_manifest_of_a_freeze_is_kept_as_it_was(database, store):
    put(database, store, "1/m/MLmodel")
    manifest = freeze(database, "1/m")
    freeze(database, "1/m")
    with database.writing() as session:
        records.relabel(session, PATH("1/m"), LABEL, "registered as renamed version 3")
    with database.reading() as session:
        assert records.find_frozen_manifest(session, PATH("1/m"), "registered as renamed version 3") == manifest
        assert records.find_frozen_manifest(session, PATH("1/m"), LABEL) is None
        assert records.frozen_labels(session, PATH("1/m")) == ["registered as renamed version 3"]


def test_a_publication_that_fails_leaves_no_record(database, store):
    put(database, store, "1/a/b", b"x")
    with pytest.raises(Exception, match="it is a folder"):
        put(database, store, "1/a")
    with database.reading() as session:
        assert records.find_digest(session, PATH("1/a")) is None


def test_a_path_as_long_as_allowed_can_be_recorded_and_frozen(database, store):
    long = "/".join(["é" * 127] * 4)
    put(database, store, f"{long}/a")
    assert freeze(database, long, "registered as " + "é" * 256 + " version 1000000") is not None
    with pytest.raises(ArtifactFrozen):
        put(database, store, f"{long}/a")


def test_a_freeze_and_uploads_at_once_never_leave_other_bytes_than_the_manifest_says(database, store):
    put(database, store, "1/m/MLmodel", b"0")
    manifests: list[Manifest | None] = []

    def upload_again_and_again(who: int) -> None:
        with suppress(ArtifactFrozen):
            for number in range(200):
                put(database, store, "1/m/MLmodel", f"{who}-{number}".encode())
                put(database, store, f"1/m/{who}/{number}", b"x")

    uploaders = [threading.Thread(target=upload_again_and_again, args=(who,)) for who in range(4)]
    for thread in uploaders:
        thread.start()
    freezer = threading.Thread(target=lambda: manifests.append(freeze(database, "1/m")))
    freezer.start()
    for thread in [*uploaders, freezer]:
        thread.join()

    on_disk = {
        stored.path.relative_to(PATH("1/m")): hashlib.sha256(content(store, str(stored.path))).hexdigest()
        for stored in store.walk(PATH("1/m"))
    }
    assert manifests[0] is not None
    assert on_disk == {path: digest.sha256 for path, digest in manifests[0].files.items()}


def test_two_uploads_of_one_new_file_at_once_are_both_answered(database, store):
    def upload(number: int) -> None:
        try:
            put(database, store, "1/new", bytes([number]))
        except BaseException as error:
            failures.append(error)

    failures: list[BaseException] = []
    threads = [threading.Thread(target=upload, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as session:
        recorded = records.find_digest(session, PATH("1/new"))
    assert recorded is not None
    assert recorded.sha256 == hashlib.sha256(content(store, "1/new")).hexdigest()


def test_nothing_is_visible_before_the_transaction_s_last_step(database, store):
    with store.upload(PATH("1/a")) as upload:
        upload.write(b"x")
        upload.finish()
        with pytest.raises(ArtifactNotFound):
            store.stat(PATH("1/a"))
