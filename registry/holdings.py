"""The folders that versions need, frozen or not: what nobody may clear away."""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.schema import ModelVersionRow
from tracking.artifact_paths import ArtifactPath, InvalidArtifactPath
from tracking.artifact_uris import ArtifactUri, InvalidArtifactUri, parse_artifact_uri
from tracking.schema import FrozenFolderRow


def held_folders(session: Session, locate: Callable[[ArtifactUri], ArtifactPath | None]) -> set[ArtifactPath]:
    """Each folder of the store, as *locate* finds it there, that is frozen or that a version was made from."""
    folders = {ArtifactPath.parse(folder) for folder in session.scalars(select(FrozenFolderRow.folder).distinct())}
    for uri in session.scalars(select(ModelVersionRow.artifact_uri).distinct()):
        folder = _located(uri, locate)
        if folder is not None:
            folders.add(folder)
    return folders


def _located(uri: str, locate: Callable[[ArtifactUri], ArtifactPath | None]) -> ArtifactPath | None:
    try:
        return locate(parse_artifact_uri(uri))
    except (InvalidArtifactUri, InvalidArtifactPath):
        return None  # A prompt's, which has no files.
