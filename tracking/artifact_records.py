"""What the database knows of artifacts: the digest of each file that was uploaded, and the folders that are frozen.

A version is held to the bytes that were there when it was registered. So the last step of an upload and of a delete
run in the transaction that looks for a freeze, and a freeze waits for those that have looked already: SQLite has one
writer at a time, PostgreSQL gets `_lock`.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from tracking.access.caller import caller_of
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import DELETED_AT_ONCE, ArtifactStore, Upload
from tracking.errors import Conflict
from tracking.manifest import FileDigest, Manifest
from tracking.schema import ArtifactFileRow, FrozenFolderRow
from tracking.upserts import upsert

# In the place of a SHA-256, which it can't be taken for.
_UNREAD = ""

# The first half of PostgreSQL's two-number advisory locks; the migrations' lock is of the one-number kind.
_LOCK_CLASS = 7_217_002


class ArtifactFrozen(Conflict):
    """A file that a registered version is held to."""

    def __init__(self, path: ArtifactPath, folder: str, label: str) -> None:
        super().__init__(
            f"The artifact {str(path)!r} can't be changed or deleted. {folder!r} is {label}: "
            "log the change as a new version."
        )


def publish_upload(session: Session, upload: Upload, now_ms: int) -> FileDigest:
    """Make a finished upload visible and record its digest, unless its folder is frozen.

    Call it as the last thing of a transaction: when that fails to commit, the file is there and its record isn't,
    so that a load would refuse the file until it is uploaded again.

    Raises:
        ArtifactFrozen: and nothing has changed.
    """
    _lock(session, upload.path, shared=True)
    ensure_writable(session, upload.path)
    digest = upload.digest
    # Recording comes first: on PostgreSQL it also makes two uploads of one file take turns.
    record_file(session, upload.path, digest, now_ms)
    upload.publish()
    return digest


def expect_unread(session: Session, path: ArtifactPath, now_ms: int) -> None:
    """Know that the file at *path* may from now on be one that didn't come through us, unless its folder is frozen.

    Call it before a client is told where to put the file, and again, as with `publish_upload`, in the transaction
    that makes it visible, where we do that.

    Raises:
        ArtifactFrozen: and nothing has changed.
    """
    _lock(session, path, shared=True)
    ensure_writable(session, path)
    record_file(session, path, FileDigest(_UNREAD, 0), now_ms)


def delete_artifact(
    session: Session, store: ArtifactStore, path: ArtifactPath, *, files_max: int = DELETED_AT_ONCE
) -> bool:
    """Delete the file or folder at *path* and its records; nothing happens if there is neither.

    Of a large folder only *files_max* files go, so that nobody waits for this transaction for long. Whether there are
    more: then begin another.

    Raises:
        ArtifactFrozen: if it is frozen, lies in a frozen folder or holds one; nothing has changed then.
    """
    _lock(session, path, shared=False)
    ensure_deletable(session, path)
    forget(session, path)
    return store.delete_some(path, files_max)


def ensure_writable(session: Session, path: ArtifactPath) -> None:
    """Raise `ArtifactFrozen` if *path* is, or lies in, a frozen folder.

    An answer for the moment only; `publish_upload` asks again when it counts.
    """
    _raise_if_frozen(session, path, _is_above(FrozenFolderRow.folder, path))


def ensure_deletable(session: Session, path: ArtifactPath) -> None:
    """Raise `ArtifactFrozen` if anything frozen is at, above or below *path*."""
    touched = or_(_is_above(FrozenFolderRow.folder, path), _is_below(FrozenFolderRow.folder, path))
    _raise_if_frozen(session, path, touched)


def _raise_if_frozen(session: Session, path: ArtifactPath, touched: ColumnElement[bool]) -> None:
    # The lowest label, so that the same question gets the same answer.
    query = select(FrozenFolderRow.folder, FrozenFolderRow.label).where(touched).order_by(FrozenFolderRow.label)
    found = session.execute(query.limit(1)).first()
    if found is not None:
        # The label names a model, and perhaps one that is hidden.
        label = found.label if caller_of(session).reading.models.all else "registered"
        raise ArtifactFrozen(path, found.folder, label)


def record_file(session: Session, path: ArtifactPath, digest: FileDigest, now_ms: int) -> None:
    """Remember what the file at *path* holds, in place of what it held before."""
    row = {"path": str(path), "sha256": digest.sha256, "size": digest.size, "uploaded_ms": now_ms}
    upsert(session, ArtifactFileRow, [row])


def forget(session: Session, path: ArtifactPath) -> None:
    """Drop the records of the file at *path*, or of all files below the folder."""
    at = ArtifactFileRow.path == str(path)
    session.execute(delete(ArtifactFileRow).where(or_(at, _is_below(ArtifactFileRow.path, path))))


def find_digest(session: Session, path: ArtifactPath) -> FileDigest | None:
    """What the file at *path* held when it was uploaded; None if it didn't come through us."""
    row = session.get(ArtifactFileRow, str(path))
    return None if row is None or row.sha256 == _UNREAD else FileDigest(row.sha256, row.size)


def manifest_of(session: Session, folder: ArtifactPath) -> Manifest | None:
    """The manifest of the files that were uploaded below *folder*; None if none was, or one that we didn't read."""
    rows = _rows_below(session, folder)
    return None if any(row.sha256 == _UNREAD for row in rows) else _known(rows, folder)


def known_below(session: Session, folder: ArtifactPath) -> Manifest | None:
    """The files below *folder* whose bytes came through us, with others beside them or not; None if there is none."""
    return _known(_rows_below(session, folder), folder)


# Built once, as every version that is made asks: building a statement takes longer than running it. The range is that
# of `_is_below`.
_BELOW = select(ArtifactFileRow.path, ArtifactFileRow.sha256, ArtifactFileRow.size).where(
    ArtifactFileRow.path > bindparam("first"), ArtifactFileRow.path < bindparam("last")
)


def _rows_below(session: Session, folder: ArtifactPath) -> list[Any]:
    session.flush()
    return list(session.connection().execute(_BELOW, {"first": f"{folder}/", "last": f"{folder}0"}))


def _known(rows: Iterable[Any], folder: ArtifactPath) -> Manifest | None:
    files = {
        ArtifactPath.parse(row.path).relative_to(folder): FileDigest(row.sha256, row.size)
        for row in rows
        if row.sha256 != _UNREAD
    }
    return Manifest(files) if files else None


def freeze(session: Session, folder: ArtifactPath, label: str, manifest: Manifest) -> None:
    """Let nobody change *folder* any more; *label* says why, as in "registered as iris-classifier version 3".

    One folder may be frozen under several labels. Take *manifest* by `manifest_of` after `hold`, or an upload could
    end between the two.
    """
    hold(session, folder)
    upsert(session, FrozenFolderRow, [{"folder": str(folder), "label": label, "manifest": manifest.text}])


def hold(session: Session, folder: ArtifactPath) -> None:
    """Wait for uploads into *folder* that are at their last step, and let no other begin it before this commits."""
    _lock(session, folder, shared=False)


def unfreeze(session: Session, folder: ArtifactPath, label: str) -> None:
    """Take back one freeze; the folder stays frozen for as long as another label is left."""
    session.execute(
        delete(FrozenFolderRow).where(FrozenFolderRow.folder == str(folder), FrozenFolderRow.label == label)
    )


def relabel(session: Session, folder: ArtifactPath, label: str, new_label: str) -> None:
    """Say the reason anew, after a rename."""
    session.execute(
        update(FrozenFolderRow)
        .where(FrozenFolderRow.folder == str(folder), FrozenFolderRow.label == label)
        .values(label=new_label)
    )


def find_frozen_manifest(session: Session, folder: ArtifactPath, label: str) -> Manifest | None:
    """The manifest with which *folder* was frozen under *label*."""
    row = session.get(FrozenFolderRow, (str(folder), label))
    return None if row is None else Manifest.from_text(row.manifest)


def frozen_labels(session: Session, folder: ArtifactPath) -> list[str]:
    """Why *folder* itself is frozen; empty if it isn't."""
    query = select(FrozenFolderRow.label).where(FrozenFolderRow.folder == str(folder))
    return sorted(session.scalars(query))


def _is_above(column: InstrumentedAttribute[str], path: ArtifactPath) -> ColumnElement[bool]:
    return column.in_([str(ancestor) for ancestor in path.ancestors()])


def _is_below(column: InstrumentedAttribute[str], folder: ArtifactPath) -> ColumnElement[bool]:
    # A range of the index: '0' is the character after '/', and the column is ordered by bytes on both databases.
    return and_(column > f"{folder}/", column < f"{folder}0")


def _lock(session: Session, path: ArtifactPath, *, shared: bool) -> None:
    """Uploads share the lock, freezes and deletes have it alone; all give it back at the end of the transaction.

    One lock for each first name of a path, which is an experiment: a file, the frozen folder around it and the tree
    that somebody deletes around both then agree on it.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    number = int.from_bytes(hashlib.sha256(path.segments[0].encode()).digest()[:4], "big", signed=True)
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    session.execute(text(f"SELECT {function}(:class, :number)"), {"class": _LOCK_CLASS, "number": number})
