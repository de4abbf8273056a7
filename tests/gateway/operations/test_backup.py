"""A backup is the store as of one moment, whoever works on it meanwhile, and comes back on either kind of database."""

import hashlib
import json
import threading

import msgspec
import pytest
from sqlalchemy import func, inspect, select

from gateway.operations.backup import BackupFolderTaken, Verdict, _in_one_piece, judge, take_backup
from gateway.operations.backup_format import BackupDamaged, BackupFolder, NotABackup, verify
from gateway.operations.progress import Silent
from gateway.operations.restore import (
    ListedArtifactsMissing,
    RevisionUnknown,
    ServersRunning,
    TargetNotEmpty,
    restore_backup,
)
from gateway.operations.tables import REVISIONS, backed_up, digest_table, our_tables
from registry import aliases, manifests, serving
from tests.gateway.operations.conftest import path_of, upload
from tracking import artifact_records, experiments, metrics, runs
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifacts import ArtifactChanged, manifest_by_reading
from tracking.database import Database, migrate
from tracking.entities import Metric
from tracking.manifest import FileDigest
from tracking.schema import ArtifactFileRow, LatestMetricRow, MetricRow, RunRow

# Whole databases go to disk and back, in each pair of kinds: slow, but part of `make check`.
pytestmark = pytest.mark.slow


def backed(filled, folder, *, copy_artifacts=True):
    return take_backup(filled.database, filled.store, folder, copy_artifacts=copy_artifacts, progress=Silent())


def restored(folder, database, store, *, force=False):
    return restore_backup(BackupFolder(folder), database, store, force=force, progress=Silent())


def contents(database):
    with database.engine.connect() as connection:
        return {table.name: digest_table(connection, table) for table in backed_up(our_tables(connection))}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_of_either_database_comes_back_in_either(filled, tmp_path, empty_database, kind):
    backup = backed(filled, tmp_path / "backup")
    assert not backup.damaged
    target, store = empty_database(kind), open_store(str(tmp_path / "elsewhere"))
    restored(tmp_path / "backup", target, store)
    assert contents(target) == contents(filled.database)
    with filled.database.reading() as before, target.reading() as after:
        assert runs.get_run(after, filled.run_id) == runs.get_run(before, filled.run_id)
        for key in ("loss", "odd"):
            # As text, because NaN is unlike itself; SQLite has no minus zero.
            found = [repr(metrics.metric_history(session, filled.run_id, key).items) for session in (before, after)]
            assert found[0].replace("-0.0", "0.0") == found[1].replace("-0.0", "0.0")
        version = aliases.get_version_by_alias(after, "iris", "champion")
        assert version == aliases.get_version_by_alias(before, "iris", "champion")
        manifest = manifests.find_manifest(after, version)
    assert manifest == manifest_by_reading(store, ArtifactPath.parse(path_of(filled.model_uri, "")[:-1]))
    target.check_revision()


def test_numbers_given_before_are_not_given_again_after(filled, tmp_path, empty_database):
    with filled.database.writing() as session:
        last = int(experiments.create_experiment(session, "gone", now_ms=1))
        session.delete(session.get(experiments.ExperimentRow, last))
    backed(filled, tmp_path / "backup")
    for number, kind in enumerate(("sqlite", "postgresql")):
        target = empty_database(kind)
        restored(tmp_path / "backup", target, open_store(str(tmp_path / f"elsewhere-{number}")))
        with target.writing() as session:
            assert int(experiments.create_experiment(session, "new", now_ms=1)) == last + 1


def test_every_table_is_backed_up_but_who_is_alive(filled, tmp_path):
    named = {table.name for table in backed(filled, tmp_path / "backup").tables}
    with filled.database.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) - named == {REVISIONS, "replicas"}


def test_a_backup_taken_under_load_is_of_one_moment(filled, tmp_path, empty_database):
    """Each batch writes 10 points and their latest; a backup between them would count otherwise."""
    stop, failures = threading.Event(), []

    def write(writer):
        number = 0
        try:
            while not stop.is_set():
                with filled.database.writing() as session:
                    run = runs.create_run(session, filled.experiment_id, start_time_ms=number)
                    batch = [Metric(key=f"m{n}", value=n, timestamp_ms=number) for n in range(10)]
                    runs.log_batch(session, run.info.run_id, metrics=batch)
                upload(filled.database, filled.store, path_of(run.info.artifact_uri, "file.txt"), b"%d" % number)
                # Replaced over and over, so that the backup meets it in every state.
                filled.upload("busy.txt", b"x" * (writer * 1000 + number))
                number += 1
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
    for writer in writers:
        writer.start()
    try:
        backup = backed(filled, tmp_path / "backup")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures
    assert not backup.damaged
    target, store = empty_database("sqlite"), open_store(str(tmp_path / "elsewhere"))
    restored(tmp_path / "backup", target, store)
    with target.reading() as session:
        counted = {
            row: session.scalar(select(func.count()).select_from(row)) for row in (RunRow, MetricRow, LatestMetricRow)
        }
        assert counted[MetricRow] - 55 == counted[LatestMetricRow] - 2 == 10 * (counted[RunRow] - 1)
        for record in session.scalars(select(ArtifactFileRow)):
            path = ArtifactPath.parse(record.path)
            with store.open(path) as reader:
                assert reader.size == record.size
            digest = artifact_records.find_digest(session, path)
            assert (
                manifest_by_reading(store, ArtifactPath(path.folder_segments)).files[ArtifactPath.parse(path.name)]
                == digest
            )


def test_artifacts_may_be_listed_only_and_are_looked_for_at_the_restore(filled, tmp_path, empty_database):
    backup = backed(filled, tmp_path / "backup", copy_artifacts=False)
    assert not (tmp_path / "backup" / "artifacts").exists()
    assert backup.artifacts.files == 4
    target = empty_database("sqlite")
    with pytest.raises(ListedArtifactsMissing, match="4 of 4"):
        restored(tmp_path / "backup", target, open_store(str(tmp_path / "elsewhere")))
    assert target.revision() is None
    restored(tmp_path / "backup", target, filled.store)
    assert contents(target) == contents(filled.database)


def test_what_was_damaged_before_is_named(filled, tmp_path):
    path = ArtifactPath.parse(path_of(filled.run_uri, "large.bin"))
    with filled.store.upload(path) as behind_its_back:
        behind_its_back.write(b"other")
        behind_its_back.finish()
        behind_its_back.publish()
    filled.store.delete(ArtifactPath.parse(path_of(filled.run_uri, "notes")))
    assert backed(filled, tmp_path / "backup").damaged == (
        path_of(filled.run_uri, "large.bin"),
        path_of(filled.run_uri, "notes/a b.txt"),
    )


def test_a_file_that_came_past_us_is_copied_too(filled, tmp_path, empty_database):
    """A client put it into the bucket by a signed URL: its record has no digest."""
    path = ArtifactPath.parse(path_of(filled.run_uri, "signed.bin"))
    with filled.database.writing() as session:
        artifact_records.expect_unread(session, path, 1)
    with filled.store.upload(path) as upload:
        upload.write(b"past us")
        upload.finish()
        upload.publish()
    backup = backed(filled, tmp_path / "backup")
    assert (backup.artifacts.files, backup.damaged) == (5, ())
    target, store = empty_database("sqlite"), open_store(str(tmp_path / "elsewhere"))
    restored(tmp_path / "backup", target, store)
    assert contents(target) == contents(filled.database)
    with store.open(path) as reader:
        assert b"".join(reader.chunks()) == b"past us"


def test_a_target_with_something_in_it_is_left_alone_unless_forced(filled, tmp_path):
    backed(filled, tmp_path / "backup")
    before = contents(filled.database)
    with pytest.raises(TargetNotEmpty, match="--force"):
        restored(tmp_path / "backup", filled.database, open_store(str(tmp_path / "elsewhere")))
    with filled.database.writing() as session:
        runs.create_run(session, filled.experiment_id, start_time_ms=0)
    restored(tmp_path / "backup", filled.database, filled.store, force=True)
    assert contents(filled.database) == before


def test_a_database_that_serves_is_never_restored_into(filled, tmp_path):
    backed(filled, tmp_path / "backup")
    with filled.database.writing() as session:
        now_ms = filled.database.now_ms(session)
        serving.heartbeat(session, "replica-1", slots=[], epoch=0, now_ms=now_ms, lease_ms=60_000)
    with pytest.raises(ServersRunning, match="replica-1"):
        restored(tmp_path / "backup", filled.database, filled.store, force=True)


def test_a_backup_that_lost_a_byte_is_refused_before_anything_is_touched(filled, tmp_path, empty_database):
    backed(filled, tmp_path / "backup")
    folder = BackupFolder(tmp_path / "backup")
    target, store = empty_database("sqlite"), open_store(str(tmp_path / "elsewhere"))
    for file in (
        folder.table("runs"),
        folder.list,
        tmp_path / "backup" / "artifacts" / path_of(filled.run_uri, "large.bin"),
    ):
        whole = file.read_bytes()
        file.write_bytes(whole[:-2] + b"?\n")
        with pytest.raises(BackupDamaged, match=file.name):
            restored(tmp_path / "backup", target, store)
        file.write_bytes(whole)
    verify(folder, Silent())
    folder.manifest.rename(tmp_path / "manifest")
    with pytest.raises(NotABackup):
        restored(tmp_path / "backup", target, store)
    assert target.revision() is None


def test_a_restore_that_fails_leaves_the_database_as_it_was(filled, tmp_path):
    backed(filled, tmp_path / "backup")
    folder = BackupFolder(tmp_path / "backup")
    backup = folder.read()
    before = contents(filled.database)
    tables = [msgspec.structs.replace(table, content="0" * 64) for table in backup.tables]
    folder.write(msgspec.structs.replace(backup, tables=tuple(tables)))
    with pytest.raises(BackupDamaged, match="doesn't come back"):
        restored(tmp_path / "backup", filled.database, filled.store, force=True)
    assert contents(filled.database) == before
    folder.write(msgspec.structs.replace(backup, revision="9999"))
    with pytest.raises(RevisionUnknown):
        restored(tmp_path / "backup", filled.database, filled.store, force=True)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_of_an_older_release_is_brought_up_to_date(filled, tmp_path, empty_database, kind):
    """Revision 0002 had less of everything, and asked nobody who they are."""
    backup, had = backed(filled, tmp_path / "backup"), columns_of("0002", tmp_path)
    tables = tuple(
        without(tmp_path / "backup", table, set(table.columns) - had[table.name])
        for table in backup.tables
        if table.name in had
    )
    BackupFolder(tmp_path / "backup").write(msgspec.structs.replace(backup, tables=tables, revision="0002"))
    target = empty_database(kind)
    restored(tmp_path / "backup", target, open_store(str(tmp_path / "elsewhere")))
    target.check_revision()
    came, was = contents(target), contents(filled.database)
    # It begins with what the migration found, at its own time.
    assert (came.pop("history").rows > 0) == (was.pop("history").rows > 0)
    # Who registered a version wasn't kept then.
    assert came.pop("model_versions").rows == was.pop("model_versions").rows > 0
    assert came == was


def columns_of(revision, folder):
    """The columns of each table that there was at *revision*."""
    database = Database(f"sqlite:///{folder}/{revision}.db")
    with database.engine.begin() as connection:
        migrate(connection, revision)
        found = inspect(connection)
        columns = {name: {column["name"] for column in found.get_columns(name)} for name in found.get_table_names()}
    database.dispose()
    return columns


def without(folder, table, columns):
    """The file of *table* as it was before *columns* were added."""
    if not columns:
        return table
    kept = [place for place, name in enumerate(table.columns) if name not in columns]
    path = folder / "tables" / f"{table.name}.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines = [msgspec.json.encode([row[place] for place in kept]) for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    whole = path.read_bytes()
    return msgspec.structs.replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        content=f"{sum(int(hashlib.sha256(line).hexdigest(), 16) for line in lines) % 2**256:064x}",
    )


def test_a_folder_that_holds_something_takes_no_backup(filled, tmp_path):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine.txt").write_text("keep")
    with pytest.raises(BackupFolderTaken):
        backed(filled, tmp_path / "backup")


A, B, C = (FileDigest(letter * 64, 1) for letter in "abc")


@pytest.mark.parametrize("times", [0, 1, 5])
def test_a_file_that_is_replaced_while_it_is_read_is_read_again(times):
    changes = iter([ArtifactChanged(ArtifactPath.parse("busy.txt"))] * times)

    def read():
        for change in changes:
            raise change
        return A

    assert _in_one_piece(read) is A


def test_a_file_that_is_replaced_each_time_is_no_endless_wait():
    def read():
        raise ArtifactChanged(ArtifactPath.parse("busy.txt"))

    with pytest.raises(ArtifactChanged):
        _in_one_piece(read)


@pytest.mark.parametrize(
    ("recorded", "copied", "meanwhile", "verdict"),
    [
        pytest.param(A, A, [A, A], Verdict.KEPT, id="nothing happened"),
        pytest.param(A, A, [A, B], Verdict.KEPT, id="replaced after it was copied"),
        pytest.param(A, A, [A, None], Verdict.KEPT, id="deleted after it was copied"),
        pytest.param(A, B, [A, B], Verdict.REPLACED, id="replaced before it was copied"),
        pytest.param(A, None, [A, None], Verdict.DELETED, id="deleted before it was copied"),
        pytest.param(A, B, [A, A], Verdict.DAMAGED, id="changed behind the record's back"),
        pytest.param(A, None, [A, A], Verdict.DAMAGED, id="lost"),
        pytest.param(A, B, [B, C], Verdict.REPLACED, id="replaced before and after it was copied"),
        pytest.param(A, B, [A, C], Verdict.DAMAGED, id="replaced twice meanwhile, or changed"),
    ],
)
def test_what_became_of_a_file_is_judged_by_its_records(recorded, copied, meanwhile, verdict):
    assert judge(recorded, copied, meanwhile) is verdict
