"""How much there is on either side of an import."""

import msgspec
from sqlalchemy.orm import Session

from registry.adoption import count_registry
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import parse_artifact_uri
from tracking.artifacts import ArtifactStore
from tracking.errors import NotFound
from tracking.imports import Kind, count_artifacts, count_tracking, list_imports
from tracking.logged_models import get_logged_model
from tracking.runs import get_run_info


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """So many of each."""

    experiments: int = 0
    runs: int = 0
    params: int = 0
    tags: int = 0
    """Of runs."""
    points: int = 0
    """Of the histories of runs' metrics."""
    logged_models: int = 0
    registered_models: int = 0
    """Prompts too."""
    versions: int = 0
    aliases: int = 0
    files: int = 0
    """Artifacts of runs and logged models."""
    size: int = 0
    """Bytes of those."""

    def __add__(self, other: "Counts") -> "Counts":
        mine, others = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})


def count_here(session: Session, source: str, store: ArtifactStore) -> Counts:
    """Count, in our own tables, what there is of what was copied from *source*, this time or before."""
    folders = _folders(session, source, store)
    artifacts = [count_artifacts(session, folder) for folder in folders]
    return Counts(
        **msgspec.structs.asdict(count_tracking(session, source)),
        **msgspec.structs.asdict(count_registry(session, source)),
        files=sum(files for files, _ in artifacts),
        size=sum(size for _, size in artifacts),
    )


def _folders(session: Session, source: str, store: ArtifactStore) -> list[ArtifactPath]:
    uris = []
    for kind in (Kind.RUN, Kind.LOGGED_MODEL):
        for one in list_imports(session, source, kind):
            try:
                owner = (
                    get_run_info(session, one.local_id) if kind is Kind.RUN else get_logged_model(session, one.local_id)
                )
            except NotFound:
                continue  # Removed since.
            uris.append(owner.artifact_uri)
    located = (store.locate(parse_artifact_uri(uri)) for uri in uris)
    return [folder for folder in located if folder is not None]
