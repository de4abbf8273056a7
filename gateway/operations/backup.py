"""Backs up a store while servers work on it: the rows as of one moment, then the artifacts that those rows speak of.

The rows come first. A registered version's files never change, so whatever the rows hold a version to is still there
when the artifacts are copied. Other files may be replaced or deleted meanwhile; their records in the backup are then
made to say what was copied, so that rows and files agree.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from importlib.metadata import version
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Table

from gateway.operations.artifact_copies import copy_artifact, several_at_once
from gateway.operations.backup_format import ArtifactList, Backup, BackupFolder, ListWriter, verify
from gateway.operations.progress import Progress
from gateway.operations.tables import (
    TableFile,
    backed_up,
    dump_table,
    our_tables,
    sequence_positions,
    write_lines,
)
from tracking import artifact_records
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactChanged, ArtifactNotFound, ArtifactStore
from tracking.database import Database
from tracking.errors import Conflict
from tracking.manifest import FileDigest, digest_chunks
from tracking.schema import ArtifactFileRow

_RECORDS = ArtifactFileRow.__tablename__

# The pauses before a file that is being replaced is copied anew; after the last it counts as damaged.
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4)


class BackupFolderTaken(Conflict):
    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} isn't empty. Name a folder that isn't there yet.")


class Verdict(Enum):
    """What became of a file since the rows were read."""

    KEPT = auto()
    REPLACED = auto()
    DELETED = auto()
    DAMAGED = auto()


def judge(
    recorded: FileDigest, copied: FileDigest | None, recorded_meanwhile: Collection[FileDigest | None]
) -> Verdict:
    """Compare what the rows said, what was found in the store (None: nothing), and what the record said since."""
    if copied == recorded:
        return Verdict.KEPT
    if copied not in recorded_meanwhile:
        return Verdict.DAMAGED
    return Verdict.DELETED if copied is None else Verdict.REPLACED


def take_backup(
    database: Database, store: ArtifactStore, root: Path, *, copy_artifacts: bool, progress: Progress
) -> Backup:
    """Write a backup into *root*, read it again, and return its manifest.

    With *copy_artifacts* off the artifacts are only listed, with their digests.

    Raises:
        BackupFolderTaken: if there is something in *root*.
        DatabaseNeedsMigration: if the tables aren't this program's.
        BackupDamaged: if what was written isn't what is read.
    """
    database.check_revision()
    folder = _new_folder(root)
    with database.reading() as session:
        taken_ms = database.now_ms(session)
    with tempfile.TemporaryDirectory(dir=root) as scratch, database.snapshot(Path(scratch)) as connection:
        tables = backed_up(our_tables(connection))
        sequences = sequence_positions(connection, tables)
        files = _dump(connection, tables, folder, progress)
    found = _take_artifacts(database, store, folder, copy_artifacts=copy_artifacts, progress=progress)
    files[_RECORDS] = _rewrite_records(folder, files[_RECORDS], found.changed)
    folder.write(
        Backup(
            program=version("titlebout"),
            database="sqlite" if database.is_sqlite else "postgresql",
            revision=database.revision() or "",
            taken_ms=taken_ms,
            tables=tuple(files.values()),
            sequences=sequences,
            artifacts=found.listed,
            damaged=tuple(sorted(found.damaged)),
        )
    )
    return verify(folder, progress)


def _new_folder(root: Path) -> BackupFolder:
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise BackupFolderTaken(root)
    folder = BackupFolder(root)
    folder.tables.mkdir()
    return folder


def _dump(
    connection: Connection, tables: Sequence[Table], folder: BackupFolder, progress: Progress
) -> dict[str, TableFile]:
    progress.begin("tables", len(tables))
    files = {}
    for table in tables:
        files[str(table.name)] = dump_table(connection, table, folder.table(table.name))
        progress.advance()
    return files


class _Found(msgspec.Struct, kw_only=True):
    """What came of the artifacts."""

    listed: ArtifactList
    changed: dict[str, FileDigest | None]
    """What a file was replaced by since the rows were read; None if it was deleted."""
    damaged: list[str]


def _take_artifacts(
    database: Database, store: ArtifactStore, folder: BackupFolder, *, copy_artifacts: bool, progress: Progress
) -> _Found:
    recorded = _recorded(folder)
    changed: dict[str, FileDigest | None] = {}
    damaged: list[str] = []

    def take(path: ArtifactPath, size: int | None) -> tuple[ArtifactPath, FileDigest | None]:
        before = recorded.get(str(path))
        if before is None and _find_record(database, path) is not None:
            return path, None  # Uploaded since, so that no row of ours speaks of it.
        earlier = before
        for pause_s in _PAUSES_S:
            time.sleep(pause_s)
            if copy_artifacts:
                content = _copy(store, folder.artifacts, path)
            elif before is not None and size == before.size:
                content = before
            else:
                content = _read(store, path)
            if before is None or content == before:
                return path, content
            now = _find_record(database, path)
            match judge(before, content, [earlier, now]):
                case Verdict.REPLACED | Verdict.DELETED:
                    changed[str(path)] = content
                    return path, content
            earlier = now
        damaged.append(str(path))
        return path, content

    progress.begin("artifacts", len(recorded) or None)
    seen = set()
    with ListWriter(folder.list) as output:
        for path, content in several_at_once(lambda found: take(found.path, found.size), store.walk(None)):
            seen.add(str(path))
            if content is not None:
                output.add(path, content)
            progress.advance()
    for missing in recorded.keys() - seen:
        take(ArtifactPath.parse(missing), None)
    listed = output.written(copied=copy_artifacts, store=store.uri)
    return _Found(listed=listed, changed=changed, damaged=damaged)


def _in_one_piece(read: Callable[[], FileDigest | None]) -> FileDigest | None:
    """What *read* comes to, which is tried again where the file is replaced while it is being read.

    Raises:
        ArtifactChanged: if that happens each time.
    """
    for pause_s in _PAUSES_S:
        try:
            return read()
        except ArtifactChanged:
            time.sleep(pause_s)
    return read()


def _copy(store: ArtifactStore, target: ArtifactStore, path: ArtifactPath) -> FileDigest | None:
    try:
        return _in_one_piece(lambda: copy_artifact(store, target, path))
    except ArtifactNotFound:
        target.delete(path)  # What an earlier try may have left.
        return None


def _read(store: ArtifactStore, path: ArtifactPath) -> FileDigest | None:
    def read() -> FileDigest:
        with store.open(path) as reader:
            return digest_chunks(reader.chunks())

    try:
        return _in_one_piece(read)
    except ArtifactNotFound:
        return None


def _find_record(database: Database, path: ArtifactPath) -> FileDigest | None:
    with database.reading() as session:
        return artifact_records.find_digest(session, path)


# --- the records, in the file that their table became


class _Record(msgspec.Struct, array_like=True):
    """A line of the table of artifact files, its columns in the schema's order."""

    path: str
    sha256: str
    size: int
    uploaded_ms: int


def _recorded(folder: BackupFolder) -> dict[str, FileDigest]:
    # A file that didn't pass through us has a record without a digest, which says nothing.
    return {record.path: FileDigest(record.sha256, record.size) for record in _records(folder) if record.sha256}


def _records(folder: BackupFolder) -> Iterator[_Record]:
    with folder.table(_RECORDS).open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=_Record)


def _rewrite_records(folder: BackupFolder, table: TableFile, changed: Mapping[str, FileDigest | None]) -> TableFile:
    """Let the records say what was copied, where that isn't what the rows said."""
    if not changed:
        return table
    file = folder.table(_RECORDS)
    rewritten = file.with_suffix(".new")
    with rewritten.open("wb") as output:
        result = write_lines(_RECORDS, table.columns, _changed_lines(_records(folder), changed), output.write)
    rewritten.replace(file)
    return result


def _changed_lines(records: Iterable[_Record], changed: Mapping[str, FileDigest | None]) -> Iterator[bytes]:
    for record in records:
        digest = changed.get(record.path, FileDigest(record.sha256, record.size))
        if digest is not None:
            record.sha256, record.size = digest.sha256, digest.size
            yield msgspec.json.encode(record)
