"""The folders of versions, for who may read a model and not the experiment that it came from."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.granted import in_sight
from registry.schema import ModelVersionRow
from tracking.artifact_paths import ArtifactPath
from tracking.experiments import DEFAULT_ARTIFACT_ROOT


def is_of_seen_version(session: Session, path: ArtifactPath) -> bool:
    """Whether what lies at *path* is in the folder of a version whose model the caller sees."""
    # As `registry.sources` writes every folder of the store.
    folders = [f"{DEFAULT_ARTIFACT_ROOT}{folder}" for folder in path.ancestors()]
    row = ModelVersionRow
    found = select(row.name).where(row.artifact_uri.in_(folders), *in_sight(session, row.name)).limit(1)
    return session.scalar(found) is not None
