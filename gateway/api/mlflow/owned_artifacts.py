"""Artifacts by whose they are: a run's, a logged model's or a model version's. MLflow's pages ask this way.

The owner says where its files lie; from there on, it is the artifact store's path like any other.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, RawBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from gateway.api.artifact_download import ArtifactDownload, begin_download
from gateway.api.mlflow.artifacts_wire import OwnedArtifacts, file_info, folder_named
from gateway.api.mlflow.tracking_wire import Empty
from gateway.auth import needs
from gateway.settings import Settings
from gateway.transfers import Transfers
from registry import versions
from registry.names import read_version
from tracking import artifact_records, logged_models, runs
from tracking.access.permissions import Permission
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import InvalidArtifactUri, parse_artifact_uri
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.entities import LoggedModel, RunInfo
from tracking.errors import InvalidParameter

# mlflow/server/handlers.py: this upload is for what a page makes, and is held in memory.
_PAGE_UPLOAD_BYTES_MAX = 10 * 1024 * 1024


class OutsideStore(InvalidParameter):
    def __init__(self, owner: str) -> None:
        super().__init__(f"The artifacts of {owner} don't lie in this server's artifact store.")


def _paths(path: str) -> list[str]:
    return [f"/api/2.0/mlflow/{path}", f"/ajax-api/2.0/mlflow/{path}"]


# --- a run's


@get(_paths("artifacts/list"), sync_to_thread=True, opt=needs(Permission.ARTIFACT_READ))
def list_run_artifacts(
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    run_id: FromQuery[str | None] = None,
    run_uuid: FromQuery[str | None] = None,
    path: FromQuery[str | None] = None,
    page_token: FromQuery[str | None] = None,
) -> OwnedArtifacts:
    """One level of a folder of a run, in pages."""
    uri, root = run_root(database, artifact_store, run_id or run_uuid)
    return _listed(artifact_store, uri, root, path, page_token)


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
    _, root = await asyncio.to_thread(run_root, database, artifact_store, run_id or run_uuid)
    return await begin_download(
        root / ArtifactPath.parse(path),
        headers=request.headers,
        database=database,
        store=artifact_store,
        transfers=transfers,
        settings=settings,
    )


@post(
    _paths("upload-artifact"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    request_max_body_size=_PAGE_UPLOAD_BYTES_MAX,
    opt=needs(Permission.ARTIFACT_WRITE),
)
def upload_run_artifact(
    body: RawBody,
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    clock: NamedDependency[Callable[[], float]],
    run_uuid: FromQuery[str | None] = None,
    path: FromQuery[str | None] = None,
) -> Empty:
    """Keep a small file of a run, sent as the body."""
    if not path:
        raise InvalidParameter("Missing value for required parameter 'path'")
    if not body:
        raise InvalidParameter("The file is expected in the body; there is none.")
    _, root = run_root(database, artifact_store, run_uuid, find=runs.require_changeable_run)
    with artifact_store.upload(root / ArtifactPath.parse(path)) as upload:
        upload.write(body)
        upload.finish()
        with database.writing() as session:
            artifact_records.publish_upload(session, upload, int(clock() * 1000))
    return Empty()


# --- a logged model's


@get(
    _paths("logged-models/{model_id:str}/artifacts/directories"),
    sync_to_thread=True,
    opt=needs(Permission.ARTIFACT_READ),
)
def list_logged_model_artifacts(
    model_id: FromPath[str],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    artifact_directory_path: FromQuery[str | None] = None,
    page_token: FromQuery[str | None] = None,
) -> OwnedArtifacts:
    """One level of a folder of a logged model, in pages."""
    uri, root = logged_model_root(database, artifact_store, model_id)
    return _listed(artifact_store, uri, root, artifact_directory_path, page_token)


@get(_paths("logged-models/{model_id:str}/artifacts/files"), opt=needs(Permission.ARTIFACT_READ))
async def get_logged_model_artifact(
    model_id: FromPath[str],
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    transfers: NamedDependency[Transfers],
    settings: NamedDependency[Settings],
    artifact_file_path: FromQuery[str],
) -> ArtifactDownload:
    _, root = await asyncio.to_thread(logged_model_root, database, artifact_store, model_id)
    return await begin_download(
        root / ArtifactPath.parse(artifact_file_path),
        headers=request.headers,
        database=database,
        store=artifact_store,
        transfers=transfers,
        settings=settings,
    )


# --- a model version's


@get("/model-versions/get-artifact", opt=needs(Permission.ARTIFACT_READ))
async def get_model_version_artifact(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    transfers: NamedDependency[Transfers],
    settings: NamedDependency[Settings],
    name: FromQuery[str],
    version: FromQuery[str],
    path: FromQuery[str],
) -> ArtifactDownload:
    root = await asyncio.to_thread(_version_root, database, artifact_store, name, read_version(version))
    return await begin_download(
        root / ArtifactPath.parse(path),
        headers=request.headers,
        database=database,
        store=artifact_store,
        transfers=transfers,
        settings=settings,
    )


# --- where they lie


def run_root(
    database: Database,
    store: ArtifactStore,
    run_id: str | None,
    find: Callable[[Session, str], RunInfo] = runs.get_run_info,
) -> tuple[str, ArtifactPath]:
    """A run's artifact URI, and where that lies in the store. *find* says what the caller wants to do there."""
    if not run_id:
        raise InvalidParameter("Missing value for required parameter 'run_id'")
    with database.reading() as session:
        uri = find(session, run_id).artifact_uri
    return uri, _located(store, uri, f"run {run_id!r}")


def logged_model_root(
    database: Database,
    store: ArtifactStore,
    model_id: str,
    find: Callable[[Session, str], LoggedModel] = logged_models.get_logged_model,
) -> tuple[str, ArtifactPath]:
    with database.reading() as session:
        uri = find(session, model_id).artifact_uri
    return uri, _located(store, uri, f"logged model {model_id!r}")


def _version_root(database: Database, store: ArtifactStore, name: str, version: int) -> ArtifactPath:
    with database.reading() as session:
        uri = versions.get_version(session, name, version).artifact_uri
    return _located(store, uri, f"version {version} of {name!r}")


def _located(store: ArtifactStore, uri: str, owner: str) -> ArtifactPath:
    try:
        root = store.locate(parse_artifact_uri(uri))
    except InvalidArtifactUri:  # A prompt's version has a placeholder in its place.
        root = None
    if root is None:
        raise OutsideStore(owner)
    return root


def _listed(
    store: ArtifactStore, uri: str, root: ArtifactPath, path: str | None, page_token: str | None
) -> OwnedArtifacts:
    below = folder_named(path)
    page = store.list_folder(root / below if below else root, token=page_token or None)
    files = [file_info(f"{below}/{entry.name}" if below else entry.name, entry) for entry in page.entries]
    return OwnedArtifacts(root_uri=uri, files=files, next_page_token=page.next_token)


handlers = [
    list_run_artifacts,
    get_run_artifact,
    upload_run_artifact,
    list_logged_model_artifacts,
    get_logged_model_artifact,
    get_model_version_artifact,
]
