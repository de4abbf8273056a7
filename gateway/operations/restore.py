"""Puts a backup into a database and an artifact store of either kind.

Artifacts go first: rows never speak of files that aren't there. The rows are one transaction, in which the tables are
made anew at the backup's revision, filled, compared with the manifest, and migrated; if anything fails, the database
is as it was.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, MetaData, Table, func, inspect, select

from gateway.operations.artifact_copies import copy_artifact, several_at_once
from gateway.operations.backup_format import ArtifactLine, Backup, BackupDamaged, BackupFolder, ensure_stored, verify
from gateway.operations.progress import Progress
from gateway.operations.tables import (
    REVISIONS,
    TableFile,
    backed_up,
    continue_sequences,
    digest_table,
    load_table,
    our_tables,
)
from registry import serving
from registry.schema import GenerationRow, ReplicaRow
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactNotFound, ArtifactStore
from tracking.database import Database, is_known_revision, migrate
from tracking.errors import Conflict, InvalidParameter
from tracking.schema import ExperimentRow

# What a fresh start writes by itself.
_ALWAYS_THERE = {GenerationRow.__tablename__: 1, ExperimentRow.__tablename__: 1}


class TargetNotEmpty(Conflict):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what} Name an empty database and an empty artifact root, or say --force to overwrite them.")


class ServersRunning(Conflict):
    def __init__(self, replicas: list[str]) -> None:
        super().__init__(f"Titlebout runs on this database: {', '.join(replicas)}. Stop it first.")


class RevisionUnknown(InvalidParameter):
    def __init__(self, revision: str, program: str) -> None:
        super().__init__(
            f"The backup's tables are at revision {revision!r}, which this release doesn't know. Restore it with "
            f"release {program} or a later one."
        )


class ListedArtifactsMissing(Conflict):
    def __init__(self, missing: int, files: int, first: str) -> None:
        super().__init__(
            f"The backup only lists its artifacts, and {missing} of {files} aren't in the artifact store as listed "
            f"(the first: {first!r}). Bring them there first, or say --force."
        )


def restore_backup(
    folder: BackupFolder, database: Database, store: ArtifactStore, *, force: bool, progress: Progress
) -> Backup:
    """Put the backup in *folder* into *database* and *store*, read it all again, and return its manifest.

    With *force* whatever the database holds is replaced, and so are artifacts of the same name.

    Raises:
        NotABackup, BackupUnreadable, BackupDamaged: if it isn't whole; nothing has been touched then.
        TargetNotEmpty: if there is something in the way and *force* wasn't said.
        ServersRunning: if somebody works with the database.
    """
    backup = verify(folder, progress)
    if not is_known_revision(backup.revision):
        raise RevisionUnknown(backup.revision, backup.program)
    _ensure_unused(database)
    if not force:
        _ensure_empty(database)
    if backup.artifacts.copied:
        _restore_artifacts(folder, backup, store, force=force, progress=progress)
    else:
        _check_listed(folder, backup, store, force=force, progress=progress)
    with database.writing() as session:
        _restore_rows(session.connection(), folder, backup, progress)
    return backup


def _ensure_unused(database: Database) -> None:
    with database.reading() as session:
        if not inspect(session.connection()).has_table(ReplicaRow.__tablename__):
            return
        replicas = serving.list_replicas(session, now_ms=database.now_ms(session))
    live = [replica.id for replica in replicas if replica.live]
    if live:
        raise ServersRunning(live)


def _ensure_empty(database: Database) -> None:
    with database.reading() as session:
        connection = session.connection()
        for table in backed_up(our_tables(connection)):
            rows = connection.scalar(select(func.count()).select_from(table)) or 0
            if rows > _ALWAYS_THERE.get(table.name, 0):
                raise TargetNotEmpty(f"The database has {rows} rows in {table.name!r} already.")


# --- artifacts


def _restore_artifacts(
    folder: BackupFolder, backup: Backup, store: ArtifactStore, *, force: bool, progress: Progress
) -> None:
    if not force and store.list_folder(None, limit=1).entries:
        raise TargetNotEmpty(f"There are artifacts in {store.uri} already.")

    def put(line: ArtifactLine) -> None:
        path = ArtifactPath.parse(line.path)
        if copy_artifact(folder.artifacts, store, path) != line.digest:
            raise BackupDamaged(f"artifacts/{path}", "changed while it was restored")
        ensure_stored(store, path, line.digest)

    progress.begin("artifacts", backup.artifacts.files)
    for _ in several_at_once(put, folder.listed()):
        progress.advance()


def _check_listed(
    folder: BackupFolder, backup: Backup, store: ArtifactStore, *, force: bool, progress: Progress
) -> None:
    progress.begin("artifacts", backup.artifacts.files)
    missing = []
    for line in folder.listed():
        if not _is_there(store, line):
            missing.append(line.path)
        progress.advance()
    if missing and not force:
        raise ListedArtifactsMissing(len(missing), backup.artifacts.files, missing[0])


def _is_there(store: ArtifactStore, line: ArtifactLine) -> bool:
    # By size: every load of a model compares its digests anyhow, and reading a whole bucket takes hours.
    try:
        return store.stat(ArtifactPath.parse(line.path)).size == line.size
    except ArtifactNotFound:
        return False


# --- rows


def _restore_rows(connection: Connection, folder: BackupFolder, backup: Backup, progress: Progress) -> None:
    _drop_tables(connection)
    migrate(connection, backup.revision)
    tables = our_tables(connection)
    for table in reversed(tables):
        connection.execute(table.delete())  # What the migration filled in by itself.
    files = {file.name: file for file in backup.tables}
    _ensure_same_tables(files, backed_up(tables))
    progress.begin("rows", backup.rows)
    for table in backed_up(tables):
        file = files[table.name]
        load_table(connection, table, file.columns, folder.table(table.name))
        if digest_table(connection, table).content != file.content:
            raise BackupDamaged(f"tables/{table.name}.jsonl", "doesn't come back from the database as it was")
        progress.advance(file.rows)
    continue_sequences(connection, tables, backup.sequences)
    migrate(connection)


def _drop_tables(connection: Connection) -> None:
    tables = our_tables(connection)
    if tables:
        tables[0].metadata.drop_all(connection, tables=tables)
    if inspect(connection).has_table(REVISIONS):
        Table(REVISIONS, MetaData()).drop(connection)


def _ensure_same_tables(files: dict[str, TableFile], tables: Iterable[Table]) -> None:
    names = {table.name for table in tables}
    if names != files.keys():
        raise BackupDamaged("backup.json", f"names other tables than its revision has: {sorted(names ^ files.keys())}")
