"""The database and the artifact store, for verbs that work on them without a server."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.artifact_access import open_artifact_store
from gateway.settings import Settings
from tracking.artifacts import ArtifactStore
from tracking.database import Database


@contextmanager
def opened_stores(settings: Settings) -> Iterator[tuple[Database, ArtifactStore]]:
    database = Database(settings.database, pool_size=settings.database_threads)
    try:
        yield database, open_artifact_store(settings)
    finally:
        database.dispose()
