"""The files of the prediction log of an endpoint: which there are, and each of them as it is."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from gateway.api.artifact_download import ArtifactDownload, begin_download
from gateway.auth import needs
from gateway.kept_predictions.files import PredictionFile, folder_of, list_files, path_of
from gateway.settings import Settings
from gateway.transfers import Transfers
from registry import endpoints
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.errors import InvalidParameter

_FILES = "/api/1.0/titlebout/endpoints/{name:str}/predictions"
_AT_MS_MAX = 253_402_300_799_999
"""The last instant that has a date."""


class NoSuchInstant(InvalidParameter):
    def __init__(self) -> None:
        super().__init__(f"since_ms must be milliseconds since 1970, from 0 to {_AT_MS_MAX}.")


class PredictionFiles(msgspec.Struct, kw_only=True):
    """What is kept of an endpoint's predictions."""

    endpoint: str
    endpoint_id: str
    folder: str
    """In the artifact store, which may be read past this server, too."""
    store: str
    files: list[PredictionFile]
    """In order of days."""


@get(_FILES, sync_to_thread=True, opt=needs(Permission.ARTIFACT_READ))
def list_prediction_files(
    name: FromPath[str],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    since_ms: FromQuery[int | None] = None,
) -> PredictionFiles:
    """The files of the prediction log, from the day of `since_ms` on."""
    since = _day(since_ms)
    endpoint_id = _find_id(database, name)
    return PredictionFiles(
        endpoint=name,
        endpoint_id=endpoint_id,
        folder=str(folder_of(endpoint_id)),
        store=artifact_store.uri,
        files=list(list_files(artifact_store, endpoint_id, since=since)),
    )


@get(f"{_FILES}/{{day:str}}/{{file_name:str}}", opt=needs(Permission.ARTIFACT_READ))
async def get_prediction_file(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    day: FromPath[str],
    file_name: FromPath[str],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
    transfers: NamedDependency[Transfers],
    settings: NamedDependency[Settings],
) -> ArtifactDownload:
    """One of them, as Parquet."""
    path = path_of(await asyncio.to_thread(_find_id, database, name), day, file_name)
    return await begin_download(
        path, headers=request.headers, database=database, store=artifact_store, transfers=transfers, settings=settings
    )


def _find_id(database: Database, name: str) -> str:
    with database.reading() as session:
        return endpoints.get_endpoint(session, name).id


def _day(at_ms: int | None) -> date | None:
    if at_ms is None:
        return None
    if not 0 <= at_ms <= _AT_MS_MAX:
        raise NoSuchInstant
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


handlers = [list_prediction_files, get_prediction_file]
