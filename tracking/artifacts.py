"""What an artifact store does, whatever it keeps its files in. `tracking.artifact_stores` opens one.

A file becomes visible whole or not at all: an `Upload` collects it, `publish` gives it its name. What is read or
written streams, so that memory doesn't grow with the file.
"""

import hashlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import msgspec

from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import ArtifactUri
from tracking.errors import Conflict, Exhausted, NotFound, ServingError, TemporarilyUnavailable
from tracking.manifest import FileDigest, Manifest, digest_chunks
from tracking.signed_urls import UrlSigner

CHUNK_BYTES = 1024 * 1024
"""How much of a file is in memory at once while it is read."""

DELETED_AT_ONCE = 1_000
"""Files that go in one step of deleting a folder; what one request to S3 takes."""

_LISTED_AT_ONCE = 10_000

ABANDONED_AFTER_MS = 24 * 3600 * 1000
"""A multipart upload that was begun so long ago has no sender any more."""


class ArtifactNotFound(NotFound):
    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(f"There is no artifact {str(path)!r}.")


class ArtifactIsFolder(NotFound):
    """A folder where a file was asked for."""

    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(f"The artifact {str(path)!r} is a folder. List it, and ask for one of its files.")


class ArtifactInTheWay(Conflict):
    """A file where the path needs a folder, or the other way round."""

    def __init__(self, path: ArtifactPath, wrong: str) -> None:
        super().__init__(f"{str(path)!r} can't be stored: {wrong}. Choose another name, or delete that first.")


class ArtifactChanged(Conflict):
    """A file that was replaced between two reads of it."""

    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(f"The artifact {str(path)!r} was replaced while it was read. Read it again.")


class ArtifactStillThere(Conflict):
    """A file that was deleted and can be seen all the same."""

    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(f"The artifact {str(path)!r} was deleted and is still there.")


class TooManyUploads(Exhausted):
    """More uploads at once than there is memory for."""

    def __init__(self, uploads_max: int) -> None:
        super().__init__(f"{uploads_max} uploads are under way already. Try again shortly.")


class StoreUnavailable(TemporarilyUnavailable):
    """The store can't be reached, or refuses us; the cause is chained."""

    def __init__(self) -> None:
        super().__init__("The artifact store can't do this at the moment. Try again shortly.")


class Entry(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A file or a folder, as a listing shows it."""

    name: str
    is_dir: bool
    size: int | None = None
    """Bytes; None for a folder."""


class Page(msgspec.Struct, frozen=True):
    """A part of a folder's listing, ordered by name, and the token that fetches the next part."""

    entries: tuple[Entry, ...]
    next_token: str | None = None


class StoredArtifact(msgspec.Struct, frozen=True):
    """A file somewhere below a folder."""

    path: ArtifactPath
    size: int
    modified_ms: int
    """When it was written, by the store's clock."""


class Upload(ABC):
    """A file on its way into a store: `write` as often as needed, `finish`, `publish`; leaving the block ends it.

    Only `publish` makes it visible. It is apart from `finish`, and short, so that it can be the last step of a
    database transaction.
    """

    def __init__(self, path: ArtifactPath) -> None:
        self.path = path
        self._sha256 = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, chunk: bytes) -> None:
        self._append(chunk)
        self._sha256.update(chunk)
        self._size += len(chunk)

    @property
    def digest(self) -> FileDigest:
        """Of what has been written so far."""
        return FileDigest(self._sha256.hexdigest(), self._size)

    @abstractmethod
    def _append(self, chunk: bytes) -> None: ...

    @abstractmethod
    def finish(self) -> FileDigest:
        """Bring everything to the store; nothing is visible yet."""

    @abstractmethod
    def publish(self) -> None:
        """Give the finished file its name, in place of a former one.

        Raises:
            ArtifactInTheWay: if the name is a folder's, or goes through a file.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop what was not published, and every handle. May be called again."""


class ArtifactReader(Protocol):
    """An open file. What it reads is of one and the same version of the file."""

    size: int

    def chunks(self, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        """Bytes from *start* up to, and without, *stop*. Closing the generator early lets go of a connection.

        Raises:
            ArtifactChanged: if the store can't promise that any more.
        """
        ...


@runtime_checkable
class ArtifactStore(Protocol):
    """Files by path. Safe to use from several threads and several processes at once."""

    uri: str
    """Where it is, without secrets: what a run's ``artifact_uri`` starts with in direct mode."""

    @property
    def signer(self) -> UrlSigner | None:
        """Lets clients come to it themselves; None if they can't."""
        ...

    def upload(self, path: ArtifactPath) -> Upload:
        """Begin a file. Nothing is visible until it is published.

        Raises:
            TooManyUploads: if there is no room for one more.
        """
        ...

    def open(self, path: ArtifactPath) -> AbstractContextManager[ArtifactReader]:
        """Open a file to read.

        Raises:
            ArtifactNotFound: if there is nothing of that name.
            ArtifactIsFolder: if it is a folder.
        """
        ...

    def stat(self, path: ArtifactPath) -> Entry:
        """The file or folder at *path*; a file wins where S3 has both.

        Raises:
            ArtifactNotFound: if there is nothing of that name.
        """
        ...

    def list_folder(self, folder: ArtifactPath | None, *, token: str | None = None, limit: int = 1000) -> Page:
        """One level of *folder* (None is the root), in pages; nothing for a file or for what isn't there.

        Raises:
            InvalidPageToken: if *token* isn't one that a page came with.
        """
        ...

    def walk(self, folder: ArtifactPath | None) -> Iterator[StoredArtifact]:
        """Every file below *folder* at any depth, in no promised order.

        Raises:
            InvalidArtifactPath: on meeting a file whose name no `ArtifactPath` can be.
        """
        ...

    def delete(self, path: ArtifactPath) -> None:
        """Remove the file, or the folder with all that is in it; nothing happens if there is neither."""
        ...

    def delete_some(self, path: ArtifactPath, files_max: int) -> bool:
        """The same, but of a large folder about *files_max* files only; whether there are more."""
        ...

    def locate(self, uri: ArtifactUri) -> ArtifactPath | None:
        """The path at which *uri* lies in this store; None if it lies elsewhere or is the root itself."""
        ...

    def sweep(self, now_ms: int) -> int:
        """Remove what broken uploads left behind, and say how many there were."""
        ...

    def reach(self) -> str:
        """Touch the store as lightly as possible, and say in a few words what was found.

        Raises:
            StoreUnavailable: with the cause chained.
        """
        ...


def list_all(store: ArtifactStore, folder: ArtifactPath | None) -> Iterator[Entry]:
    """One level of *folder*, whole: for clients that know no pages."""
    token = None
    while True:
        # S3 gives a thousand, whatever is asked; a folder is read from its beginning for each page.
        page = store.list_folder(folder, token=token, limit=_LISTED_AT_ONCE)
        yield from page.entries
        token = page.next_token
        if token is None:
            return


def manifest_by_reading(store: ArtifactStore, folder: ArtifactPath) -> Manifest | None:
    """The manifest of *folder*, by streaming every byte of it: for files that did not come through us.

    None if there is no file.
    """
    files = {}
    for stored in store.walk(folder):
        with store.open(stored.path) as reader:
            files[stored.path.relative_to(folder)] = digest_chunks(reader.chunks())
    return Manifest(files) if files else None


class CheckStep(msgspec.Struct, frozen=True):
    """One line of ``titlebout doctor``."""

    name: str
    ok: bool
    detail: str


def check_store(store: ArtifactStore) -> Iterator[CheckStep]:
    """Reach, list, write, read and delete, each reported alone; what depends on a failed step is not tried.

    Leaves nothing behind, unless deleting is what fails.
    """
    reached = _step("reach", store.reach)
    if not reached.ok:
        # S3 says "Not Found" without saying what.
        yield CheckStep(reached.name, ok=False, detail=f"{store.uri}: {reached.detail}")
        return
    yield reached
    yield _step("list", lambda: _said(len(store.list_folder(None).entries)))
    probe = ArtifactPath.parse(f"titlebout-doctor-{uuid.uuid4().hex}.txt")
    written = _step("write", lambda: _write_probe(store, probe))
    yield written
    if written.ok:
        yield _step("read", lambda: _read_probe(store, probe))
        yield _step("delete", lambda: _delete_probe(store, probe))


_PROBE = b"written by titlebout doctor\n"


def _said(entries: int) -> str:
    return (
        "the first page of the root has 1 name" if entries == 1 else f"the first page of the root has {entries} names"
    )


def _write_probe(store: ArtifactStore, probe: ArtifactPath) -> str:
    with store.upload(probe) as upload:
        upload.write(_PROBE)
        upload.finish()
        upload.publish()
    return f"wrote {len(_PROBE)} bytes to {probe}"


def _read_probe(store: ArtifactStore, probe: ArtifactPath) -> str:
    with store.open(probe) as reader:
        if b"".join(reader.chunks()) != _PROBE:
            raise ArtifactChanged(probe)
    return "read them back unchanged"


def _delete_probe(store: ArtifactStore, probe: ArtifactPath) -> str:
    store.delete(probe)
    try:
        store.stat(probe)
    except ArtifactNotFound:
        return "deleted them"
    raise ArtifactStillThere(probe)


def _step(name: str, action: Callable[[], str]) -> CheckStep:
    try:
        return CheckStep(name, ok=True, detail=action())
    except ServingError as error:
        # The operator who runs this may see the cause; a caller over HTTP never does.
        return CheckStep(name, ok=False, detail=str(error.__cause__ or error))
