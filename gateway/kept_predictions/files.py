"""Where kept predictions are in the artifact store: a folder of an endpoint, in it one of a day, in that files."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import msgspec

from tracking.artifact_paths import PREDICTIONS, ArtifactPath
from tracking.artifacts import ArtifactStore, list_all

_DATE = "date="
"""As Hive names a partition, which DuckDB and pandas read as a column."""
SUFFIX = ".parquet"


class PredictionFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of kept predictions."""

    path: str
    """In the artifact store."""
    date: date
    """Of the predictions in it, by UTC."""
    bytes: int


def folder_of(endpoint_id: str) -> ArtifactPath:
    return ArtifactPath((PREDICTIONS, endpoint_id))


def path_of(endpoint_id: str, day: str, name: str) -> ArtifactPath:
    """The path of a file of one *day*, as `gateway.feedback.times.day_of` writes it."""
    return folder_of(endpoint_id) / ArtifactPath((f"{_DATE}{day}", f"{name}{SUFFIX}"))


def list_files_of(store: ArtifactStore, endpoint_id: str, day: str) -> list[ArtifactPath]:
    """The files of one *day*, in any order."""
    below = folder_of(endpoint_id) / ArtifactPath((f"{_DATE}{day}",))
    return [
        below / ArtifactPath((entry.name,))
        for entry in list_all(store, below)
        if entry.size is not None and entry.name.endswith(SUFFIX)
    ]


def list_files(store: ArtifactStore, endpoint_id: str, *, since: date | None = None) -> Iterator[PredictionFile]:
    """The files of an endpoint, of *since* and the days after, in order of days."""
    folder = folder_of(endpoint_id)
    for day, below in _days(store, folder):
        if since is None or day >= since:
            for entry in list_all(store, below):
                if entry.size is not None and entry.name.endswith(SUFFIX):
                    yield PredictionFile(path=str(below / ArtifactPath((entry.name,))), date=day, bytes=entry.size)


def remove_old(store: ArtifactStore, *, now_ms: int, kept_days: int) -> int:
    """Remove the days that are older than *kept_days*, of all endpoints; how many there were."""
    first_kept = datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=kept_days)
    removed = 0
    for endpoint in list(list_all(store, ArtifactPath((PREDICTIONS,)))):
        for day, below in list(_days(store, folder_of(endpoint.name))):
            if day < first_kept:
                store.delete(below)
                removed += 1
    return removed


def _days(store: ArtifactStore, folder: ArtifactPath) -> Iterator[tuple[date, ArtifactPath]]:
    for entry in list_all(store, folder):
        if entry.is_dir and entry.name.startswith(_DATE):
            try:
                day = date.fromisoformat(entry.name.removeprefix(_DATE))
            except ValueError:
                continue  # Put there by other means.
            yield day, folder / ArtifactPath((entry.name,))
