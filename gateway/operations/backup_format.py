"""What a backup is: a folder with a manifest, a file of lines a table, a list of the artifacts, and the artifacts.

backup.json          `Backup`; written last, so that a folder without it is no backup
tables/NAME.jsonl    the rows of one table (`gateway.operations.tables`)
artifacts.jsonl      `ArtifactLine`, one for each file of the artifact store
artifacts/PATH       the files themselves, unless they are only listed
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from gateway.operations.progress import Progress
from gateway.operations.tables import TableFile
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactNotFound, ArtifactStore
from tracking.errors import Conflict, InvalidParameter, NotFound
from tracking.folder_artifacts import FolderArtifactStore
from tracking.manifest import FileDigest, digest_chunks, digest_file

FORMAT = 1


class NotABackup(NotFound):
    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} holds no whole backup: there is no backup.json in it.")


class BackupUnreadable(InvalidParameter):
    def __init__(self, folder: Path, wrong: str) -> None:
        super().__init__(f"The backup in {folder} can't be read: {wrong}.")


class BackupDamaged(Conflict):
    """Bytes that aren't those that were backed up."""

    def __init__(self, file: str, wrong: str) -> None:
        super().__init__(f"The backup's file {file!r} {wrong}.")


class ArtifactLine(msgspec.Struct, frozen=True):
    """One file of the artifact store."""

    path: str
    sha256: str
    size: int

    @property
    def digest(self) -> FileDigest:
        return FileDigest(self.sha256, self.size)


class ArtifactList(msgspec.Struct, frozen=True, kw_only=True):
    """What ``artifacts.jsonl`` holds."""

    copied: bool
    """Whether the files are in the backup too."""
    store: str
    """Where they were; for people."""
    files: int
    size: int
    """Bytes of all of them."""
    sha256: str
    """Of ``artifacts.jsonl``."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest, ``backup.json``."""

    format: int = FORMAT
    program: str
    """The release that made it; for people."""
    database: str
    """``sqlite`` or ``postgresql``; for people. The files are the same from both."""
    revision: str
    """Of the tables."""
    taken_ms: int
    """The moment that the rows are of, by the database's clock."""
    tables: tuple[TableFile, ...]
    sequences: dict[str, int]
    """For each table that draws its key from a sequence, the last number given."""
    artifacts: ArtifactList
    damaged: tuple[str, ...] = ()
    """Artifacts that were lost or changed in the store behind its records' back, before the backup."""

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


class BackupFolder:
    """The places in a backup."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "backup.json"
        self.tables = root / "tables"
        self.list = root / "artifacts.jsonl"
        self.artifacts = FolderArtifactStore(root / "artifacts")

    def table(self, name: str) -> Path:
        return self.tables / f"{name}.jsonl"

    def write(self, backup: Backup) -> None:
        self.manifest.write_bytes(msgspec.json.format(msgspec.json.encode(backup), indent=2) + b"\n")

    def read(self) -> Backup:
        """The manifest.

        Raises:
            NotABackup, BackupUnreadable: if there is none, or none that this release reads.
        """
        try:
            backup = msgspec.json.decode(self.manifest.read_bytes(), type=Backup)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotABackup(self.root) from error
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BackupUnreadable(self.root, str(error)) from error
        if backup.format != FORMAT:
            raise BackupUnreadable(self.root, f"it is of format {backup.format}, and this release reads {FORMAT}")
        return backup

    def listed(self) -> Iterator[ArtifactLine]:
        with self.list.open("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=ArtifactLine)


def verify(folder: BackupFolder, progress: Progress) -> Backup:
    """Read every byte of the backup again, and compare with its manifest.

    Raises:
        BackupDamaged: naming the first file that isn't as it was written.
    """
    backup = folder.read()
    progress.begin("check tables", len(backup.tables))
    for table in backup.tables:
        _compare(folder.table(table.name), FileDigest(table.sha256, table.size))
        progress.advance()
    _compare(folder.list, FileDigest(backup.artifacts.sha256, folder.list.stat().st_size))
    if backup.artifacts.copied:
        progress.begin("check artifacts", backup.artifacts.files)
        for line in folder.listed():
            ensure_stored(folder.artifacts, ArtifactPath.parse(line.path), line.digest)
            progress.advance()
    return backup


def ensure_stored(store: ArtifactStore, path: ArtifactPath, digest: FileDigest) -> None:
    """Read the file at *path* and compare.

    Raises:
        BackupDamaged: if it isn't there, or holds something else.
    """
    try:
        with store.open(path) as reader:
            found = digest_chunks(reader.chunks())
    except ArtifactNotFound as error:
        raise BackupDamaged(f"artifacts/{path}", "is missing") from error
    if found != digest:
        raise BackupDamaged(f"artifacts/{path}", f"doesn't have the SHA-256 {digest.sha256}")


def _compare(file: Path, digest: FileDigest) -> None:
    try:
        found = digest_file(file)
    except FileNotFoundError as error:
        raise BackupDamaged(file.name, "is missing") from error
    if found != digest:
        raise BackupDamaged(file.name, f"doesn't have the SHA-256 {digest.sha256}")


class ListWriter:
    """Writes ``artifacts.jsonl`` line by line, and says what it wrote once the block has ended."""

    def __init__(self, file: Path) -> None:
        self._output = file.open("wb")
        self._sha256 = hashlib.sha256()
        self._files, self._size = 0, 0

    def add(self, path: ArtifactPath, digest: FileDigest) -> None:
        line = msgspec.json.encode(ArtifactLine(str(path), digest.sha256, digest.size)) + b"\n"
        self._output.write(line)
        self._sha256.update(line)
        self._files, self._size = self._files + 1, self._size + digest.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._output.close()

    def written(self, *, copied: bool, store: str) -> ArtifactList:
        return ArtifactList(
            copied=copied, store=store, files=self._files, size=self._size, sha256=self._sha256.hexdigest()
        )
