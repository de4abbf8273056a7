"""MLflow's ways past the proxy: uploads in parts, and URLs that are signed for one file.

A client finds out by ``server-info`` whether they are there; where they aren't, it keeps to the proxy.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api import artifact_grants
from gateway.api.mlflow.artifacts import ArtifactTooLarge
from gateway.api.mlflow.numbers import int64
from gateway.api.mlflow.owned_artifacts import logged_model_root, run_root
from gateway.api.mlflow.tracking_wire import Empty
from gateway.api.raw_paths import raw_path_below
from gateway.auth import needs
from gateway.settings import Settings
from tracking import artifact_records, logged_models, runs
from tracking.access.permissions import Permission
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactIsFolder, ArtifactStore
from tracking.database import Database
from tracking.errors import InvalidParameter, NotImplementedHere
from tracking.names import check_text
from tracking.signed_urls import PARTS_MAX, SentPart, UrlSigner

_PARTS = "/mlflow-artifacts/mpu"
_SIGNED = "/mlflow-artifacts/presigned"

# mlflow/server/handlers.py: clouds sign for seven days at most.
_LIFE_S_MAX = 604_800

# S3 says nothing of their length; those seen have less than 200 signs.
_UPLOAD_ID_LENGTH_MAX = 1_024

_NO_WAY_PAST = {501: ResponseSpec(None, description="There is only the proxy here.")}

Clock = Callable[[], float]


class WayPastUnsupported(NotImplementedHere):
    def __init__(self, way: str) -> None:
        # The client takes the proxy if the sentence begins so (mlflow/exceptions.py).
        super().__init__(
            f"{way} is not supported for the current artifact repository: that takes an artifact root in S3 and "
            "TITLEBOUT_PRESIGNED=true."
        )


class CreateParts(msgspec.Struct):
    path: str
    """The file on the client's side; its name alone counts."""
    num_parts: int | str = 1


class Credential(msgspec.Struct):
    url: str
    part_number: int
    headers: Mapping[str, str]


class PartsCreated(msgspec.Struct):
    upload_id: str
    credentials: list[Credential]


class PartOnWire(msgspec.Struct):
    part_number: int | str
    etag: str


class CompleteParts(msgspec.Struct):
    path: str
    upload_id: str
    parts: list[PartOnWire]


class AbortParts(msgspec.Struct):
    path: str
    upload_id: str


class SignedDownload(msgspec.Struct):
    url: str
    headers: Mapping[str, str]
    file_size: int


class SignDownload(msgspec.Struct):
    run_id: str
    path: str
    expiration: int | str | None = None


class SignUpload(msgspec.Struct):
    path: str
    run_id: str | None = None
    model_id: str | None = None
    expiration: int | str | None = None


class SignedDownloadAnswer(msgspec.Struct):
    presigned_url: str
    headers: Mapping[str, str]
    file_size: int


class SignedUploadAnswer(msgspec.Struct):
    presigned_url: str
    headers: Mapping[str, str]


def signs_urls(settings: Settings, store: ArtifactStore) -> bool:
    """Whether clients may go past the proxy, and the store lets them."""
    return settings.presigned and store.signer is not None


def _signer(settings: Settings, store: ArtifactStore, way: str) -> UrlSigner:
    if not settings.presigned or store.signer is None:
        raise WayPastUnsupported(way)
    return store.signer


def _paths(path: str) -> list[str]:
    return [f"/api/2.0{path}", f"/ajax-api/2.0{path}"]


# --- uploads in parts


@post(
    _paths(f"{_PARTS}/create/{{path:path}}"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_NO_WAY_PAST,
    opt=needs(Permission.ARTIFACT_WRITE),
)
def create_parts(
    request: Request[Any, Any, Any],
    data: JSONBody[CreateParts],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    settings: NamedDependency[Settings],
) -> PartsCreated:
    signer = _signer(settings, artifact_store, "Multipart upload")
    count = int64(data.num_parts, "num_parts")
    if not 1 <= count <= PARTS_MAX:
        raise InvalidParameter(f"Invalid value {count} for parameter 'num_parts': expected 1 to {PARTS_MAX}.")
    path = _file_path(request, "create", data.path)
    # Asked again when the parts are put together. Asked here too, so that a gigabyte isn't sent in vain.
    with database.reading() as session:
        artifact_grants.ensure_changeable(session, artifact_store, path)
        artifact_records.ensure_writable(session, path)
    begun = signer.begin_parts(path, count, settings.presigned_part_url_s)
    return PartsCreated(
        begun.upload_id,
        [Credential(part.url, number, part.headers) for number, part in enumerate(begun.parts, 1)],
    )


@post(
    _paths(f"{_PARTS}/complete/{{path:path}}"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_NO_WAY_PAST,
    opt=needs(Permission.ARTIFACT_WRITE),
)
def complete_parts(
    request: Request[Any, Any, Any],
    data: JSONBody[CompleteParts],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    settings: NamedDependency[Settings],
    clock: NamedDependency[Clock],
) -> Empty:
    signer = _signer(settings, artifact_store, "Multipart upload")
    path = _file_path(request, "complete", data.path)
    upload_id = _upload_id(data.upload_id)
    parts = [SentPart(int64(part.part_number, "part_number"), part.etag) for part in data.parts]
    artifact_grants.check_changeable(database, artifact_store, path)
    if signer.size_of_parts(path, upload_id) > settings.artifact_bytes_max:
        signer.abort_parts(path, upload_id)
        raise ArtifactTooLarge(settings.artifact_bytes_max)
    with database.writing() as session:
        artifact_grants.ensure_changeable(session, artifact_store, path)
        artifact_records.expect_unread(session, path, int(clock() * 1000))
        signer.finish_parts(path, upload_id, parts)
    return Empty()


@post(
    _paths(f"{_PARTS}/abort/{{path:path}}"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_NO_WAY_PAST,
    opt=needs(Permission.ARTIFACT_WRITE),
)
def abort_parts(
    request: Request[Any, Any, Any],
    data: JSONBody[AbortParts],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    settings: NamedDependency[Settings],
) -> Empty:
    signer = _signer(settings, artifact_store, "Multipart upload")
    path, upload_id = _file_path(request, "abort", data.path), _upload_id(data.upload_id)
    artifact_grants.check_changeable(database, artifact_store, path)
    signer.abort_parts(path, upload_id)
    return Empty()


def _upload_id(sent: str) -> str:
    # A store that read an empty one as none would take the DELETE of an upload for that of the file itself.
    if not sent:
        raise InvalidParameter("Missing value for required parameter 'upload_id'")
    return check_text(sent, "upload_id", _UPLOAD_ID_LENGTH_MAX)


def _file_path(request: Request[Any, Any, Any], step: str, local_file: str) -> ArtifactPath:
    folder = ArtifactPath.from_url(raw_path_below(request, f"{_PARTS}/{step}/"))
    # The client sends its own path of the file, from whatever system it is on.
    return folder / ArtifactPath.parse(local_file.replace("\\", "/").rpartition("/")[2])


# --- URLs


@get(
    _paths(f"{_SIGNED}/{{path:path}}"),
    sync_to_thread=True,
    responses=_NO_WAY_PAST,
    opt=needs(Permission.ARTIFACT_READ),
)
def sign_artifact_download(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    settings: NamedDependency[Settings],
) -> SignedDownload:
    signer = _signer(settings, artifact_store, "Presigned download")
    path = ArtifactPath.from_url(raw_path_below(request, f"{_SIGNED}/"))
    artifact_grants.check_readable(database, artifact_store, path)
    size = _size_of(artifact_store, path)
    signed = signer.download(path, settings.presigned_url_s)
    return SignedDownload(signed.url, signed.headers, size)


@post(
    _paths("/mlflow/artifacts/presigned-download-url"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_NO_WAY_PAST,
    opt=needs(Permission.ARTIFACT_READ),
)
def sign_run_download(
    data: JSONBody[SignDownload],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    settings: NamedDependency[Settings],
) -> SignedDownloadAnswer:
    signer = _signer(settings, artifact_store, "Presigned download")
    life_s = _life_s(data.expiration, settings)
    path = run_root(database, artifact_store, data.run_id)[1] / ArtifactPath.parse(data.path)
    size = _size_of(artifact_store, path)
    signed = signer.download(path, life_s)
    return SignedDownloadAnswer(signed.url, signed.headers, size)


@post(
    _paths("/mlflow/artifacts/presigned-upload-url"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    responses=_NO_WAY_PAST,
    opt=needs(Permission.ARTIFACT_WRITE),
)
def sign_upload(
    data: JSONBody[SignUpload],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    settings: NamedDependency[Settings],
    clock: NamedDependency[Clock],
) -> SignedUploadAnswer:
    """A URL for one file of a run or of a logged model.

    Whoever has it may use it until it expires, also when the folder is frozen in the meantime: a load finds that out.
    """
    signer = _signer(settings, artifact_store, "Presigned upload")
    life_s = _life_s(data.expiration, settings)
    path = _owner_root(data, database, artifact_store) / ArtifactPath.parse(data.path)
    with database.writing() as session:
        artifact_records.expect_unread(session, path, int(clock() * 1000))
    signed = signer.upload(path, life_s)
    return SignedUploadAnswer(signed.url, signed.headers)


def _owner_root(data: SignUpload, database: Database, store: ArtifactStore) -> ArtifactPath:
    if bool(data.run_id) == bool(data.model_id):
        raise InvalidParameter("Exactly one of run_id and model_id must be provided.")
    if data.run_id:
        return run_root(database, store, data.run_id, find=runs.require_changeable_run)[1]
    find = logged_models.require_changeable_model
    return logged_model_root(database, store, data.model_id or "", find=find)[1]


def _size_of(store: ArtifactStore, path: ArtifactPath) -> int:
    entry = store.stat(path)
    if entry.size is None:
        raise ArtifactIsFolder(path)
    return entry.size


def _life_s(asked: int | str | None, settings: Settings) -> int:
    """What was asked for, but no more than the setting allows."""
    if asked is None:
        return settings.presigned_url_s
    life_s = int64(asked, "expiration")
    if not 1 <= life_s <= _LIFE_S_MAX:
        raise InvalidParameter(f"expiration must be between 1 and {_LIFE_S_MAX} seconds (got {life_s}).")
    return min(life_s, settings.presigned_url_s)


handlers = [
    create_parts,
    complete_parts,
    abort_parts,
    sign_artifact_download,
    sign_run_download,
    sign_upload,
]
