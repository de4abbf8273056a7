"""What a folder of files holds, to the byte: the digests that a registered version is held to."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from tracking.artifact_paths import ArtifactPath, InvalidArtifactPath
from tracking.errors import Conflict

_READ_BYTES = 1024 * 1024


class DigestMismatch(Conflict):
    """A file that isn't the one that was registered."""

    def __init__(self, path: str, wrong: str) -> None:
        super().__init__(f"The file {path!r} {wrong}: these are not the bytes that were registered.")


class FileDigest(msgspec.Struct, frozen=True):
    """The bytes of one file."""

    sha256: str
    """64 lower-case hexadecimal digits."""
    size: int


class Manifest(msgspec.Struct, frozen=True, dict=True):
    """Each file below a folder by its path from that folder, with its digest."""

    files: Mapping[ArtifactPath, FileDigest]

    @cached_property
    def text(self) -> str:
        """The canonical text: for each file a line ``SHA256 SIZE PATH``, ordered by the path's UTF-8 bytes.

        Single blanks between the fields, a line feed after each line. A path holds no control character, so no two
        manifests share a text.
        """
        ordered = sorted((str(path).encode(), path, digest) for path, digest in self.files.items())
        return "".join(f"{digest.sha256} {digest.size} {path}\n" for _, path, digest in ordered)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical text in UTF-8: the digest of a version."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(digest.size for digest in self.files.values())

    @classmethod
    def from_text(cls, text: str) -> "Manifest":
        """Read a canonical text back."""
        files = {}
        # Not splitlines(): it would also break at characters that a file name may hold.
        for line in text.split("\n")[:-1]:
            sha256, size, path = line.split(" ", 2)
            files[ArtifactPath.parse(path)] = FileDigest(sha256, int(size))
        return cls(files)


def digest_chunks(chunks: Iterable[bytes]) -> FileDigest:
    """Hash what *chunks* yields, one chunk in memory at a time."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
    return FileDigest(sha256.hexdigest(), size)


def digest_file(path: Path) -> FileDigest:
    with path.open("rb") as file:
        return digest_chunks(iter(lambda: file.read(_READ_BYTES), b""))


def read_folder(folder: Path) -> Manifest:
    """Hash every file of *folder*.

    Raises:
        DigestMismatch: if something there is no plain file.
    """
    return Manifest({path: digest_file(file) for path, file in _files_of(folder).items()})


def verify(manifest: Manifest, folder: Path) -> None:
    """Hash every file of *folder* and compare.

    Raises:
        DigestMismatch: naming the first file that is missing, changed, or in no manifest. A link counts as a file
            too many, wherever it points.
    """
    found = _files_of(folder)
    for path, digest in manifest.files.items():
        file = found.pop(path, None)
        if file is None:
            raise DigestMismatch(str(path), "is missing")
        size = file.stat().st_size
        if size != digest.size:
            raise DigestMismatch(str(path), f"has {size} bytes where {digest.size} were registered")
        if digest_file(file) != digest:
            raise DigestMismatch(str(path), f"doesn't have the SHA-256 {digest.sha256}")
    for path in found:
        raise DigestMismatch(str(path), "was added")


def _files_of(folder: Path) -> dict[ArtifactPath, Path]:
    files = {}
    for parent, folders, names in os.walk(folder):
        for name in [*names, *(name for name in folders if Path(parent, name).is_symlink())]:
            file = Path(parent, name)
            relative = file.relative_to(folder).as_posix()
            if file.is_symlink() or not file.is_file():
                raise DigestMismatch(relative, "is not a plain file")
            try:
                files[ArtifactPath.parse(relative)] = file
            except InvalidArtifactPath as error:
                raise DigestMismatch(relative, "was added") from error
    return files
