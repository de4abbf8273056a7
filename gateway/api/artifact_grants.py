"""Who may read and change an artifact that is named by its path: here tracking and registry are both asked.

Whoever is granted everything causes no question, and no session of the database.
"""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from registry.version_folders import is_of_seen_version
from tracking import artifact_owners
from tracking.access.caller import CALLER, caller_of
from tracking.access.narrowing import NotGranted
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactNotFound, ArtifactStore, Entry
from tracking.database import Database


def reads_everything() -> bool:
    """Whether nothing is hidden from whose request is being answered."""
    return CALLER.get().reading.everything


def check_readable(database: Database, store: ArtifactStore, path: ArtifactPath) -> None:
    """Let only those read *path* who see its experiment, or a version that it is a part of.

    Raises:
        ArtifactNotFound: to all others, whether it is there or not.
    """
    if reads_everything():
        return
    with database.reading() as session:
        if not (artifact_owners.may_read(session, store, path) or is_of_seen_version(session, path)):
            raise ArtifactNotFound(path)


def check_changeable(database: Database, store: ArtifactStore, path: ArtifactPath) -> None:
    """The same as `ensure_changeable`, for now; ask again in the transaction that counts, if there is one."""
    if not CALLER.get().acting.everything:
        with database.reading() as session:
            ensure_changeable(session, store, path)


def ensure_changeable(session: Session, store: ArtifactStore, path: ArtifactPath) -> None:
    """Let only those change *path*, and what is below it, who may change the experiment.

    Raises:
        NotGranted: to all others, in the same words whether it is hidden, or nobody's.
    """
    if not artifact_owners.may_change(session, store, path):
        raise NotGranted(caller_of(session).name, f"change the artifact {str(path)!r}")


def seen_entries(
    database: Database, store: ArtifactStore, folder: ArtifactPath | None, entries: Iterator[Entry]
) -> Iterator[Entry]:
    """Of the *entries* of *folder* those that the caller sees."""
    if reads_everything():
        return entries
    with database.reading() as session:
        if folder is not None and is_of_seen_version(session, folder):
            return entries
        is_shown = artifact_owners.shown_in(session, store, folder)
    return (entry for entry in entries if is_shown(entry.name))
