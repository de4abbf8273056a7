"""Artifacts in a folder. Linux's own rename makes them atomic, and walking by file descriptor keeps them in the folder.

Every path is walked from the root, one name at a time and without following links, so that a link planted in the
folder leads nowhere.
"""

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tracking.artifact_paths import INCOMING, ArtifactPath, is_storable_name
from tracking.artifact_uris import ArtifactUri, FileUri, ProxiedUri
from tracking.artifacts import (
    CHUNK_BYTES,
    DELETED_AT_ONCE,
    ArtifactChanged,
    ArtifactInTheWay,
    ArtifactIsFolder,
    ArtifactNotFound,
    Entry,
    Page,
    StoredArtifact,
    StoreUnavailable,
    Upload,
)
from tracking.filters import InvalidPageToken
from tracking.manifest import FileDigest

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: a FIFO must not hang us

# A file just made may not be locked yet; a sweep leaves the newest alone.
_SWEEP_AFTER_MS = 60_000

# Somebody who deletes a neighbouring file may remove the empty folder that we are about to put a file into.
_PUBLISH_TRIES = 5

# What a path through a link, a file or a name that is too long looks like to the kernel.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class FolderArtifactStore:
    """Files below *root*, which is made when the first one comes. The root itself may be a link; nothing below is."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()
        self.signer = None

    def upload(self, path: ArtifactPath) -> Upload:
        with _translated():
            return _FolderUpload(self, path)

    @contextmanager
    def open(self, path: ArtifactPath) -> Iterator["_FolderReader"]:
        with _translated(path), self.folder(path.folder_segments) as folder:
            descriptor = os.open(path.name, _FILE_FLAGS, dir_fd=folder)
        # Only the opening is translated: what the reader's own code raises below is not the store's.
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise ArtifactIsFolder(path)
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactNotFound(path)
            yield _FolderReader(path, descriptor, status.st_size)
        finally:
            os.close(descriptor)

    def stat(self, path: ArtifactPath) -> Entry:
        with _translated(path), self.folder(path.folder_segments) as folder:
            entry = _entry(path.name, os.stat(path.name, dir_fd=folder, follow_symlinks=False))
        if entry is None:
            raise ArtifactNotFound(path)
        return entry

    def list_folder(self, folder: ArtifactPath | None, *, token: str | None = None, limit: int = 1000) -> Page:
        # The token is the last name of the page before, so a page stays right while files come and go.
        if token is not None and not is_storable_name(token):
            raise InvalidPageToken
        with _translated(), _absent_is_fine():
            with self.folder(folder.segments if folder else ()) as descriptor:
                hidden = None if folder else INCOMING
                names = nsmallest(limit + 1, (name for name in _names(descriptor, token or "") if name != hidden))
                found = [_stat_entry(descriptor, name) for name in names[:limit]]
                entries = tuple(entry for entry in found if entry is not None)
                return Page(entries, names[limit - 1] if len(names) > limit else None)
        return Page(())

    def walk(self, folder: ArtifactPath | None) -> Iterator[StoredArtifact]:
        with _translated():
            yield from self._walk(folder.segments if folder else ())

    def _walk(self, segments: tuple[str, ...]) -> Iterator[StoredArtifact]:
        found: list[tuple[str, os.stat_result]] = []
        with _absent_is_fine(), self.folder(segments) as descriptor, os.scandir(descriptor) as scan:
            hidden = None if segments else INCOMING
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in scan if entry.name != hidden]
        for name, status in found:
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk((*segments, name))
            elif stat.S_ISREG(status.st_mode):
                yield StoredArtifact(ArtifactPath((*segments, name)), status.st_size, status.st_mtime_ns // 1_000_000)

    def delete(self, path: ArtifactPath) -> None:
        while self.delete_some(path, DELETED_AT_ONCE):
            pass

    def delete_some(self, path: ArtifactPath, files_max: int) -> bool:
        with _translated(), _absent_is_fine(), self.folder(path.folder_segments) as folder:
            _remove(folder, path.name, files_max)
            if _exists(folder, path.name):
                return True
        self._prune(path.folder_segments)
        return False

    def _prune(self, segments: tuple[str, ...]) -> None:
        # S3 has no empty folders, so there are none here either.
        with suppress(OSError):
            for length in range(len(segments), 0, -1):
                with self.folder(segments[: length - 1]) as parent:
                    os.rmdir(segments[length - 1], dir_fd=parent)

    def locate(self, uri: ArtifactUri) -> ArtifactPath | None:
        match uri:
            case ProxiedUri(path):
                return path
            case FileUri(path) if path != self.root and path.is_relative_to(self.root):
                return ArtifactPath.parse(path.relative_to(self.root).as_posix())
            case _:
                return None

    def sweep(self, now_ms: int) -> int:
        swept = 0
        with _translated(), _absent_is_fine(), self.folder((INCOMING,)) as folder:
            for name in os.listdir(folder):  # noqa: PTH208  (by descriptor, which pathlib can't)
                swept += _sweep_one(folder, name, now_ms)
        return swept

    def reach(self) -> str:
        with _translated(), self.folder((), create=True) as folder:
            space = os.fstatvfs(folder)
        return f"{self.root}, {space.f_bavail * space.f_frsize / 1024**3:.1f} GiB free"

    @contextmanager
    def folder(self, segments: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder at *segments*, reached without following a link."""
        if create:
            self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in segments:
                if create:
                    _make_folder(descriptor, segment)
                below = os.open(segment, _FOLDER_FLAGS, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


class _FolderReader:
    def __init__(self, path: ArtifactPath, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = size

    def chunks(self, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        # A replaced file keeps its bytes for whoever has it open, so only what is cut short behind our back shows.
        left = (self.size if stop is None else stop) - start
        while left > 0:
            with _translated():
                chunk = os.pread(self._descriptor, min(CHUNK_BYTES, left), start)
            if not chunk:
                raise ArtifactChanged(self._path)
            yield chunk
            start += len(chunk)
            left -= len(chunk)


class _FolderUpload(Upload):
    """A file in the incoming folder, locked for as long as somebody is sending it."""

    def __init__(self, store: FolderArtifactStore, path: ArtifactPath) -> None:
        super().__init__(path)
        self._store = store
        self._name: str | None = uuid.uuid4().hex
        with store.folder((INCOMING,), create=True) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file: BinaryIO = os.fdopen(os.open(self._name, flags, 0o666, dir_fd=folder), "wb", buffering=0)
        # The kernel drops the lock when this process dies, which is how `sweep` tells a dead upload from a slow one.
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _append(self, chunk: bytes) -> None:
        with _translated():
            left = memoryview(chunk)
            while left:
                left = left[self._file.write(left) :]

    def finish(self) -> FileDigest:
        with _translated():
            os.fsync(self._file.fileno())
        return self.digest

    def publish(self) -> None:
        with _translated_in_the_way(self.path):
            self._rename(tries_left=_PUBLISH_TRIES)
        self._name = None

    def _rename(self, tries_left: int) -> None:
        assert self._name is not None, "an upload is published once"  # noqa: S101  (a slip of ours, not of a caller)
        with ExitStack() as stack:
            incoming = stack.enter_context(self._store.folder((INCOMING,)))
            try:
                folder = stack.enter_context(self._store.folder(self.path.folder_segments, create=True))
                os.rename(self._name, self.path.name, src_dir_fd=incoming, dst_dir_fd=folder)
            except FileNotFoundError:
                if not tries_left:
                    raise
            else:
                os.fsync(folder)
                return
        self._rename(tries_left - 1)

    def close(self) -> None:
        if self._name is not None:
            with suppress(OSError), self._store.folder((INCOMING,)) as folder:
                os.unlink(self._name, dir_fd=folder)
            self._name = None
        self._file.close()


@contextmanager
def _translated(path: ArtifactPath | None = None) -> Iterator[None]:
    """Turn the kernel's errors into ours; for *path*, what says "not there" into `ArtifactNotFound`."""
    try:
        yield
    except OSError as error:
        if path is not None and error.errno in _NOT_THERE:
            raise ArtifactNotFound(path) from error
        raise StoreUnavailable from error


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise


@contextmanager
def _translated_in_the_way(path: ArtifactPath) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError as error:
        raise ArtifactInTheWay(path, "it is a folder") from error
    except NotADirectoryError as error:
        raise ArtifactInTheWay(path, "a part of its path is a file") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ArtifactInTheWay(path, "a part of its path is a link") from error
        if error.errno == errno.ENAMETOOLONG:
            raise ArtifactInTheWay(path, "its name is too long for this file system") from error
        raise StoreUnavailable from error


def _make_folder(parent: int, name: str) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


def _names(folder: int, after: str) -> Iterator[str]:
    # What was put here by other means under a name that no path can hold stays out of sight: nobody could ask for it.
    with os.scandir(folder) as scan:
        for entry in scan:
            if entry.name > after and is_storable_name(entry.name):
                yield entry.name


def _stat_entry(folder: int, name: str) -> Entry | None:
    try:
        return _entry(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _entry(name: str, status: os.stat_result) -> Entry | None:
    if stat.S_ISDIR(status.st_mode):
        return Entry(name=name, is_dir=True)
    if stat.S_ISREG(status.st_mode):
        return Entry(name=name, is_dir=False, size=status.st_size)
    return None


def _remove(folder: int, name: str, files_max: int) -> int:
    """Remove up to *files_max* files at and below *name*, and the folders that are empty then; how many files went."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return 1
    removed = 0
    below = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    try:
        with os.scandir(below) as scan:
            children = [entry.name for entry in islice(scan, files_max)]
        for child in children:
            if removed < files_max:
                removed += _remove(below, child, files_max - removed)
    finally:
        os.close(below)
    # What is left in it, or has come since, is for the next step.
    with suppress(OSError):
        os.rmdir(name, dir_fd=folder)
    return removed


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _sweep_one(folder: int, name: str, now_ms: int) -> int:
    with suppress(OSError):
        with os.fdopen(os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
            if os.fstat(file.fileno()).st_mtime * 1000 > now_ms - _SWEEP_AFTER_MS:
                return 0
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
            return 1
    return 0
