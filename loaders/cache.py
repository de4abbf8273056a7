"""Model files on this machine: fetched once, checked at every use, and bounded in bytes.

Layout below the root, which processes of one machine may share and which survives them::

    entries/DIGEST/        one model's files; appears by a rename, whole or not at all
    converted/DIGEST/      what the model's host made of them to answer faster; goes with the entry
    locks/DIGEST.lease     held shared by whoever uses the entry; who may have it alone may remove the entry
    locks/DIGEST.make      held by the one who fetches it
    locks/space            held while room is counted and made
    incoming/NAME/         files on their way in, or out
    incoming/NAME.claim    how many bytes they will take; held by whoever brings them

The locks are ``flock``'s, which the kernel drops with their process: nothing is leased or claimed by the dead.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from loaders.errors import CacheFull, ModelTooLarge
from tracking.artifact_paths import ArtifactPath
from tracking.manifest import DigestMismatch, FileDigest, Manifest, verify

Fetch = Callable[[str], Iterable[bytes]]
"""The chunks of one file of a model, by its path."""

Verify = Callable[[Manifest, Path], None]
"""Hashes a folder's files; raises `DigestMismatch` if they aren't the manifest's."""

_log = logging.getLogger(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CLAIM = ".claim"


class ModelCache:
    """Folders of model files by digest, at most *bytes_max* of them together."""

    def __init__(self, root: Path, bytes_max: int, *, verify: Verify = verify) -> None:
        self._entries = root / "entries"
        self._converted = root / "converted"
        self._locks = root / "locks"
        self._incoming = root / "incoming"
        self._bytes_max = bytes_max
        self._verify = verify
        self._ensure_folders()
        with self._locked("space"):
            self._sweep()

    @contextlib.contextmanager
    def lease(self, digest: str, files: Mapping[str, FileDigest], fetch: Fetch) -> Iterator[Path]:
        """The folder with the *files* of *digest*, which stays for as long as the block lasts.

        What is there already is hashed again before it is used. If a file has changed, all are fetched anew, once.

        Raises:
            DigestMismatch: if what was fetched isn't what *files* says.
            ModelTooLarge: if it doesn't fit beside what is in use.
            CacheFull: if the disk has no room for it.
        """
        if not _DIGEST.fullmatch(digest):
            raise ValueError("A digest has 64 lower-case hexadecimal digits.")
        self._ensure_folders()
        manifest = Manifest({ArtifactPath.parse(path): file for path, file in files.items()})
        entry = self._entries / digest
        with self._locked(f"{digest}.lease", fcntl.LOCK_SH):
            if not self._is_sound(entry, manifest):
                with self._locked(f"{digest}.make"):
                    # Whoever held the lock before may have made it.
                    if not self._is_sound(entry, manifest):
                        self._make(entry, manifest, fetch)
            with contextlib.suppress(FileNotFoundError):
                # Gone for the moment in which another process replaces a corrupt one.
                os.utime(entry)
            yield entry

    def converted(self, digest: str) -> Path:
        """A folder beside the entry of *digest*, to be used while that is leased, and counted and removed with it."""
        folder = self._converted / digest
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def used_bytes(self) -> int:
        return sum(self._size(entry) for entry in self._entries.iterdir())

    def _size(self, entry: Path) -> int:
        return _bytes_in(entry) + _bytes_in(self._converted / entry.name)

    def _ensure_folders(self) -> None:
        # At every lease: somebody may empty a cache to free a disk, and must not have to restart what serves.
        for folder in (self._entries, self._locks, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def _is_sound(self, entry: Path, manifest: Manifest) -> bool:
        if not entry.is_dir():
            return False
        try:
            self._verify(manifest, entry)
        except (DigestMismatch, FileNotFoundError):
            return False
        return True

    def _make(self, entry: Path, manifest: Manifest, fetch: Fetch) -> None:
        if entry.exists():
            _log.warning("cache_entry_corrupt", extra={"digest": entry.name})
            with self._locked("space"):
                self._remove(entry)
        with self._claimed_room(manifest.size) as folder:
            for path, digest in manifest.files.items():
                _write_file(folder, path, digest, fetch(str(path)))
            folder.rename(entry)

    @contextlib.contextmanager
    def _claimed_room(self, needed_bytes: int) -> Iterator[Path]:
        """A folder that *needed_bytes* may be written into, and that is gone afterwards unless it was moved."""
        with contextlib.ExitStack() as stack:
            with self._locked("space"):
                self._make_room(needed_bytes)
                folder = Path(tempfile.mkdtemp(dir=self._incoming))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                claim = folder.with_suffix(_CLAIM)
                stack.callback(claim.unlink, missing_ok=True)
                stack.enter_context(_flocked(claim, fcntl.LOCK_EX))
                claim.write_text(str(needed_bytes))
            try:
                yield folder
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise CacheFull(
                        f"The disk that holds the model cache is full: {needed_bytes:,} bytes didn't fit."
                    ) from error
                raise

    def _make_room(self, needed_bytes: int) -> None:
        """Remove entries that nobody leases, least recently used first, until *needed_bytes* fit."""
        self._sweep()
        claimed = sum(int(claim.read_text() or 0) for claim in self._incoming.glob(f"*{_CLAIM}"))
        free = self._bytes_max - claimed - self.used_bytes()
        for entry in sorted(self._entries.iterdir(), key=lambda entry: entry.stat().st_mtime_ns):
            if free >= needed_bytes or needed_bytes > self._bytes_max:
                break
            size = self._size(entry)
            with self._try_alone(f"{entry.name}.lease") as is_unused:
                if is_unused:
                    self._remove(entry)
                    free += size
        if free < needed_bytes:
            raise ModelTooLarge(needed_bytes, max(free, 0), self._bytes_max)

    def _sweep(self) -> None:
        """Remove what processes that are no more were bringing in."""
        for path in self._incoming.iterdir():
            if _is_held(path.with_suffix(_CLAIM)):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _remove(self, entry: Path) -> None:
        # Out of sight by one rename first: a half-removed entry must not be found by anybody.
        grave = Path(tempfile.mkdtemp(dir=self._incoming))
        entry.rename(grave / entry.name)
        with contextlib.suppress(FileNotFoundError):
            (self._converted / entry.name).rename(grave / "converted")
        shutil.rmtree(grave, ignore_errors=True)

    @contextlib.contextmanager
    def _try_alone(self, name: str) -> Iterator[bool]:
        """Whether the lock *name* was free; if so it is held for the block."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locked(name, fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def _locked(self, name: str, how: int = fcntl.LOCK_EX) -> contextlib.AbstractContextManager[None]:
        return _flocked(self._locks / name, how)


@contextlib.contextmanager
def _flocked(path: Path, how: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _write_file(folder: Path, path: ArtifactPath, digest: FileDigest, chunks: Iterable[bytes]) -> None:
    """Write *chunks* below *folder*, hashing them on their way, and stop as soon as there are too many."""
    target = folder.joinpath(*path.segments)
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > digest.size:
                raise DigestMismatch(str(path), f"has more than the {digest.size} bytes that were registered")
            sha256.update(chunk)
            file.write(chunk)
    if size != digest.size:
        raise DigestMismatch(str(path), f"has {size} bytes where {digest.size} were registered")
    if sha256.hexdigest() != digest.sha256:
        raise DigestMismatch(str(path), f"doesn't have the SHA-256 {digest.sha256}")


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
