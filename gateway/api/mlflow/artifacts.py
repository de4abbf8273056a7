"""MLflow's artifact proxy: files up and down, listings and deletes, as ``mlflow-artifacts:`` URIs need them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from litestar import Request, delete, get, put, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.params import FromQuery
from litestar.status_codes import HTTP_200_OK

from gateway.api import artifact_grants
from gateway.api.artifact_download import ArtifactDownload, begin_download
from gateway.api.mlflow.artifacts_wire import ListedArtifacts, file_info, folder_named
from gateway.api.raw_paths import raw_path_below
from gateway.auth import needs
from gateway.settings import Settings
from gateway.transfers import Transfers
from tracking import artifact_records
from tracking.access.permissions import Permission
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactStore, Upload, list_all
from tracking.database import Database
from tracking.errors import BadRequest, TemporarilyUnavailable, TooLarge

_PROXY = "/mlflow-artifacts/artifacts"
_API, _AJAX = "/api/2.0", "/ajax-api/2.0"

# MLflow's client asks for a folder in one piece. Beyond this many names the answer itself would be too large.
_LISTED_MAX = 100_000

# 50,000 files, which takes a minute or so; clients wait two.
_DELETE_STEPS_MAX = 50

# A block is what one trip to a thread carries: large enough for the trip not to matter.
_BLOCK_BYTES = 1024 * 1024


class ArtifactTooLarge(TooLarge):
    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The artifact is over the limit of {bytes_max} bytes (TITLEBOUT_ARTIFACT_BYTES_MAX).")


class MoreToDelete(TemporarilyUnavailable):
    """A tree so large that one request can't delete all of it. MLflow's client asks again by itself."""

    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(f"Many files of {str(path)!r} were deleted, and there are more. Delete it again.")


class UploadBrokenOff(BadRequest):
    """A body that ended before its end; nothing of it is kept."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The upload broke off: {why}. Nothing of it was kept.")


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
    await asyncio.to_thread(_ensure_writable, database, artifact_store, path)
    upload = await transfers.run(artifact_store.upload, path)
    try:
        await transfers.receive(_body_blocks(request, settings), upload)
        await transfers.run(upload.finish)
        # This is the database's work, so it is done in the database's threads.
        await asyncio.to_thread(_publish, database, artifact_store, upload, int(clock() * 1000))
    finally:
        await transfers.run(upload.close)
    return {}


def _ensure_writable(database: Database, store: ArtifactStore, path: ArtifactPath) -> None:
    with database.reading() as session:
        artifact_grants.ensure_changeable(session, store, path)
        artifact_records.ensure_writable(session, path)


def _publish(database: Database, store: ArtifactStore, upload: Upload, now_ms: int) -> None:
    with database.writing() as session:
        artifact_grants.ensure_changeable(session, store, upload.path)
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
    if not artifact_grants.reads_everything():
        await asyncio.to_thread(artifact_grants.check_readable, database, artifact_store, path)
    return await begin_download(
        path,
        headers=request.headers,
        database=database,
        store=artifact_store,
        transfers=transfers,
        settings=settings,
    )


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
    path = ArtifactPath.from_url(raw_path_below(request, f"{_PROXY}/").removesuffix(b"/"))
    for _ in range(_DELETE_STEPS_MAX):
        with database.writing() as session:
            artifact_grants.ensure_changeable(session, artifact_store, path)
            more = artifact_records.delete_artifact(session, artifact_store, path)
        if not more:
            return {}
    raise MoreToDelete(path)


@get([_API + _PROXY, _AJAX + _PROXY], sync_to_thread=True, opt=needs(Permission.ARTIFACT_READ))
def list_artifacts(
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    path: FromQuery[str | None] = None,
) -> ListedArtifacts:
    """One level of a folder, by names alone; a file or nothing gives an empty list, as the genuine server's does."""
    folder = folder_named(path)
    seen = artifact_grants.seen_entries(database, artifact_store, folder, list_all(artifact_store, folder))
    entries = list(itertools.islice(seen, _LISTED_MAX + 1))
    if len(entries) > _LISTED_MAX:
        raise TooLarge(f"The folder holds more than {_LISTED_MAX} names; list it in pages by mlflow/artifacts/list.")
    return ListedArtifacts([file_info(entry.name, entry) for entry in entries])


def _path_of(request: Request[Any, Any, Any]) -> ArtifactPath:
    return ArtifactPath.from_url(raw_path_below(request, f"{_PROXY}/"))


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
]
