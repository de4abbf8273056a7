"""Copies the artifacts of a run or a logged model, with the records that an upload makes."""

from collections.abc import Callable, Generator, Iterable

from gateway.operations.importing.books import Target
from gateway.operations.importing.mlflow_wire import File
from tracking import artifact_records
from tracking.artifact_paths import ArtifactPath
from tracking.errors import Conflict, ServingError, TemporarilyUnavailable

Read = Callable[[str], Generator[bytes]]


class ArtifactsNotCopied(Conflict):
    """Some files; the others were copied."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} of its artifacts couldn't be copied. {' '.join(problems[:3])}")


def copy_files(
    target: Target, files: Iterable[File], read: Read, folder: ArtifactPath, *, resuming: bool
) -> tuple[int, int]:
    """Copy *files*, which *read* opens by their paths, below *folder*; say how many they are, and their bytes.

    *resuming* takes a file of the same size for the same: it came by an import that was broken off.

    Raises:
        ArtifactsNotCopied: after all others were.
    """
    count, size = 0, 0
    problems: list[str] = []
    for file in files:
        try:
            size += _copy(target, file, read, folder / ArtifactPath.parse(file.path), resuming=resuming)
            count += 1
        except TemporarilyUnavailable:
            raise
        except ServingError as error:
            problems.append(error.message)
    if problems:
        raise ArtifactsNotCopied(problems)
    return count, size


def _copy(target: Target, file: File, read: Read, path: ArtifactPath, *, resuming: bool) -> int:
    with target.database.reading() as session:
        recorded = artifact_records.find_digest(session, path)
    if resuming and recorded is not None and recorded.size == file.file_size:
        return recorded.size
    with target.store.upload(path) as upload:
        for chunk in read(file.path):
            upload.write(chunk)
        digest = upload.finish()
        # The same bytes again change nothing, and may be frozen by now.
        if digest != recorded:
            with target.database.writing() as session:
                artifact_records.publish_upload(session, upload, target.database.now_ms(session))
    return digest.size
