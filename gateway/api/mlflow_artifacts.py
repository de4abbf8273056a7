"""MLflow's artifact proxy: files up and down, listings and deletes, as ``mlflow-artifacts:`` URIs need them.

Paths are read from the URL as it came over the wire. The path that a framework hands out is decoded, and its repeated
slashes are folded; what was asked for could no longer be told.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from litestar import Request, delete, get, put, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.params import FromQuery
from litestar.status_codes import HTTP_200_OK

from gateway.api.artifact_download import ArtifactDownload
from gateway.auth import Permission, needs
from gateway.settings import Settings
from gateway.transfers import Transfers
from tracking import artifact_records, runs
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import parse_artifact_uri
from tracking.artifacts import ArtifactStore, Entry, Upload, list_all
from tracking.database import Database
from tracking.errors import BadRequest, InvalidParameter, TooLarge
from tracking.manifest import FileDigest

_PROXY = "/mlflow-artifacts/artifacts"
_API, _AJAX = "/api/2.0", "/ajax-api/2.0"

# MLflow's client asks for a folder in one piece. Beyond this many names the answer itself would be too large.
_LISTED_MAX = 100_000

# A block is what one trip to a thread carries: large enough for the trip not to matter.
_BLOCK_BYTES = 1024 * 1024


class ArtifactTooLarge(TooLarge):
    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The artifact is over the limit of {bytes_max} bytes (TITLEBOUT_ARTIFACT_BYTES_MAX).")


class UploadBrokenOff(BadRequest):
    """A body that ended before its end; nothing of it is kept."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The upload broke off: {why}. Nothing of it was kept.")


class RunOutsideStore(InvalidParameter):
    def __init__(self, run_id: str) -> None:
        super().__init__(f"The artifacts of run '{run_id}' don't lie in this server's artifact store.")


class FileInfo(msgspec.Struct, omit_defaults=True):
    """A name in a folder; ``file_size`` is there for files alone."""

    path: str
    is_dir: bool
    file_size: int | None = None


class ListedArtifacts(msgspec.Struct):
    files: list[FileInfo]


class RunArtifacts(msgspec.Struct, omit_defaults=True):
    root_uri: str
    files: list[FileInfo]
    next_page_token: str | None = None


@put(
    [f"{_API}{_PROXY}/{{path:path}}", f"{_AJAX}{_PROXY}/{{path:path}}"],
    status_code=HTTP_200_OK,
    # The bound is `artifact_bytes_max`, counted here as the blocks come.
    request_max_body_size=None,
    opt=needs(Permission.ARTIFACT_WRITE),
)
async def upload_artifact(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    transfers: NamedDependency[Transfers],
    settings: NamedDependency[Settings],
    clock: NamedDependency[Callable[[], float]],
) -> dict[str, str]:
    path = _path_of(request)
    # Asked again when it counts. Asked here too, so that a gigabyte isn't received in vain.
    await asyncio.to_thread(_ensure_writable, database, path)
    upload = await transfers.run(artifact_store.upload, path)
    try:
        await transfers.receive(_body_blocks(request, settings), upload)
        await transfers.run(upload.finish)
        # This is the database's work, so it is done in the database's threads.
        await asyncio.to_thread(_publish, database, upload, int(clock() * 1000))
    finally:
        await transfers.run(upload.close)
    return {}


def _ensure_writable(database: Database, path: ArtifactPath) -> None:
    with database.reading() as session:
        artifact_records.ensure_writable(session, path)


def _publish(database: Database, upload: Upload, now_ms: int) -> None:
    with database.writing() as session:
        artifact_records.publish_upload(session, upload, now_ms)


@route(
    [f"{_API}{_PROXY}/{{path:path}}", f"{_AJAX}{_PROXY}/{{path:path}}"],
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=needs(Permission.ARTIFACT_READ),
)
async def download_artifact(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    transfers: NamedDependency[Transfers],
    settings: NamedDependency[Settings],
) -> ArtifactDownload:
    path = _path_of(request)
    recorded = await asyncio.to_thread(_find_digest, database, path)
    return ArtifactDownload(
        path,
        store=artifact_store,
        transfers=transfers,
        recorded=recorded,
        headers=request.headers,
        idle_timeout_s=settings.artifact_idle_timeout_s,
    )


def _find_digest(database: Database, path: ArtifactPath) -> FileDigest | None:
    with database.reading() as session:
        return artifact_records.find_digest(session, path)


@delete(
    [f"{_API}{_PROXY}/{{path:path}}", f"{_AJAX}{_PROXY}/{{path:path}}"],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.ARTIFACT_WRITE),
)
def delete_artifact(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
) -> dict[str, str]:
    # The client names a whole folder, such as a run's, with a slash at its end.
    path = ArtifactPath.from_url(_raw_path_of(request).removesuffix(b"/"))
    with database.writing() as session:
        artifact_records.delete_artifact(session, artifact_store, path)
    return {}


@get([_API + _PROXY, _AJAX + _PROXY], sync_to_thread=True, opt=needs(Permission.ARTIFACT_READ))
def list_artifacts(
    artifact_store: NamedDependency[ArtifactStore], path: FromQuery[str | None] = None
) -> ListedArtifacts:
    """One level of a folder, by names alone; a file or nothing gives an empty list, as the genuine server's does."""
    entries = list(itertools.islice(list_all(artifact_store, _folder(path)), _LISTED_MAX + 1))
    if len(entries) > _LISTED_MAX:
        raise TooLarge(f"The folder holds more than {_LISTED_MAX} names; list it in pages by mlflow/artifacts/list.")
    return ListedArtifacts([_file_info(entry.name, entry) for entry in entries])


@get(
    [f"{_API}/mlflow/artifacts/list", f"{_AJAX}/mlflow/artifacts/list"],
    sync_to_thread=True,
    opt=needs(Permission.ARTIFACT_READ),
)
def list_run_artifacts(
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    run_id: FromQuery[str | None] = None,
    run_uuid: FromQuery[str | None] = None,
    path: FromQuery[str | None] = None,
    page_token: FromQuery[str | None] = None,
) -> RunArtifacts:
    """One level of a folder of a run, in pages, by paths from the run's artifact root."""
    root_uri, root = _run_root(database, artifact_store, run_id or run_uuid)
    below = _folder(path)
    page = artifact_store.list_folder(root / below if below else root, token=page_token or None)
    files = [_file_info(f"{below}/{entry.name}" if below else entry.name, entry) for entry in page.entries]
    return RunArtifacts(root_uri=root_uri, files=files, next_page_token=page.next_token)


@get("/get-artifact", opt=needs(Permission.ARTIFACT_READ))
async def get_run_artifact(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    transfers: NamedDependency[Transfers],
    settings: NamedDependency[Settings],
    path: FromQuery[str],
    run_id: FromQuery[str | None] = None,
    run_uuid: FromQuery[str | None] = None,
) -> ArtifactDownload:
    """One file of a run, as the genuine server's pages link to it."""
    _, root = await asyncio.to_thread(_run_root, database, artifact_store, run_id or run_uuid)
    whole = root / ArtifactPath.parse(path)
    recorded = await asyncio.to_thread(_find_digest, database, whole)
    return ArtifactDownload(
        whole,
        store=artifact_store,
        transfers=transfers,
        recorded=recorded,
        headers=request.headers,
        idle_timeout_s=settings.artifact_idle_timeout_s,
    )


def _run_root(database: Database, store: ArtifactStore, run_id: str | None) -> tuple[str, ArtifactPath]:
    """A run's artifact URI, and where that lies in the store."""
    if not run_id:
        raise InvalidParameter("Missing value for required parameter 'run_id'")
    with database.reading() as session:
        uri = runs.get_run_info(session, run_id).artifact_uri
    root = store.locate(parse_artifact_uri(uri))
    if root is None:
        raise RunOutsideStore(run_id)
    return uri, root


def _path_of(request: Request[Any, Any, Any]) -> ArtifactPath:
    return ArtifactPath.from_url(_raw_path_of(request))


def _raw_path_of(request: Request[Any, Any, Any]) -> bytes:
    raw: bytes = request.scope["raw_path"]
    _, found, rest = raw.partition(f"{_PROXY}/".encode())
    if not found:
        raise InvalidParameter(f"The path must hold '{_PROXY}/' as it is, not percent-encoded.")
    return rest


def _folder(path: str | None) -> ArtifactPath | None:
    # A slash at the end of a folder's name is common, and harmless.
    text = (path or "").removesuffix("/")
    return ArtifactPath.parse(text) if text else None


def _file_info(path: str, entry: Entry) -> FileInfo:
    return FileInfo(path, is_dir=entry.is_dir, file_size=entry.size)


async def _body_blocks(request: Request[Any, Any, Any], settings: Settings) -> AsyncIterator[bytes]:
    """The body in blocks of about `_BLOCK_BYTES`.

    Raises:
        ArtifactTooLarge: as soon as that is known.
        UploadBrokenOff: if the sender leaves, or says nothing for too long.
    """
    received, parts, waiting = 0, list[bytes](), 0
    announced = request.content_length
    if announced is not None and announced > settings.artifact_bytes_max:
        raise ArtifactTooLarge(settings.artifact_bytes_max)
    async for part in _body_parts(request, settings.artifact_idle_timeout_s):
        received += len(part)
        if received > settings.artifact_bytes_max:
            raise ArtifactTooLarge(settings.artifact_bytes_max)
        parts.append(part)
        waiting += len(part)
        if waiting >= _BLOCK_BYTES:
            yield b"".join(parts)
            parts, waiting = [], 0
    if parts:
        yield b"".join(parts)


async def _body_parts(request: Request[Any, Any, Any], idle_timeout_s: float) -> AsyncIterator[bytes]:
    # Not `request.stream()`, which answers a sender's leaving with a 500.
    more = True
    while more:
        try:
            async with asyncio.timeout(idle_timeout_s):
                message = await request.receive()
        except TimeoutError:
            raise UploadBrokenOff(f"no byte came for {idle_timeout_s:g} s") from None
        if message["type"] != "http.request":
            raise UploadBrokenOff("the sender left")
        yield message["body"]
        more = message["more_body"]


handlers = [
    upload_artifact,
    download_artifact,
    delete_artifact,
    list_artifacts,
    list_run_artifacts,
    get_run_artifact,
]
