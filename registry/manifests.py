"""What a version is held to: the manifest of its folder, and the freeze that keeps the folder as it says.

Only folders in our own store can be frozen. What lies elsewhere is still held to a digest, which a load compares.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.entities import ModelVersion
from registry.errors import FilesStillComing
from registry.schema import ModelVersionRow
from tracking import artifact_records
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import InvalidArtifactUri, ProxiedUri, parse_artifact_uri
from tracking.manifest import Manifest

MLMODEL = ArtifactPath.parse("MLmodel")
"""The file by which a folder is a model's."""


def find_manifest(session: Session, version: ModelVersion) -> Manifest | None:
    """Each file that *version* is held to; None before its files are known, and for a folder outside the store."""
    folder = folder_of(version.artifact_uri)
    if folder is None:
        return None
    return artifact_records.find_frozen_manifest(session, folder, _label(version.name, version.version))


def folder_of(artifact_uri: str) -> ArtifactPath | None:
    """The folder in our own store; None for one elsewhere, and for a prompt, which has none."""
    try:
        uri = parse_artifact_uri(artifact_uri)
    except InvalidArtifactUri:
        return None
    return uri.path if isinstance(uri, ProxiedUri) else None


def hold(session: Session, row: ModelVersionRow, manifest: Manifest) -> None:
    """Hold the version to *manifest* and freeze its folder."""
    row.digest = manifest.digest
    folder = folder_of(row.artifact_uri)
    if folder is not None:
        artifact_records.freeze(session, folder, _label(row.name, row.version), manifest)


def hold_what_was_uploaded(session: Session, row: ModelVersionRow) -> None:
    """Hold the version to the digests that uploads recorded; reads no file.

    A folder without its MLmodel isn't whole yet: the version stays free, and is held when it is first loaded.
    """
    folder = folder_of(row.artifact_uri)
    if folder is None:
        return
    # Before the question, so that no upload ends between it and the freeze.
    artifact_records.hold(session, folder)
    manifest = artifact_records.manifest_of(session, folder)
    if manifest is not None and MLMODEL in manifest.files:
        hold(session, row, manifest)


def hold_what_was_loaded(session: Session, row: ModelVersionRow, manifest: Manifest) -> None:
    """Hold the version to *manifest*, by which it was loaded.

    Raises:
        FilesStillComing: if uploads have made the folder another since.
    """
    folder = folder_of(row.artifact_uri)
    if folder is not None:
        artifact_records.hold(session, folder)
        uploaded = artifact_records.known_below(session, folder)
        # Files that were put into the store by other means have no record, and no say.
        if uploaded is not None and not uploaded.files.items() <= manifest.files.items():
            raise FilesStillComing(row.name, row.version)
    hold(session, row, manifest)


def hold_as(session: Session, row: ModelVersionRow, copied: ModelVersion) -> None:
    """Hold a copy to exactly what the version that it was copied from is held to."""
    manifest = find_manifest(session, copied)
    if manifest is not None:
        hold(session, row, manifest)
    else:
        row.digest = copied.digest


def release(session: Session, name: str, version: int, artifact_uri: str) -> None:
    """Give up the version's hold on its folder, which other versions may still have."""
    folder = folder_of(artifact_uri)
    if folder is not None:
        artifact_records.unfreeze(session, folder, _label(name, version))


def release_all(session: Session, name: str) -> None:
    """Give up what all versions of the model hold."""
    for version, artifact_uri in _folders(session, name):
        release(session, name, version, artifact_uri)


def rename_all(session: Session, name: str, new_name: str) -> None:
    """Let the freezes of a renamed model's versions say the new name; its rows have it already."""
    for version, artifact_uri in _folders(session, new_name):
        folder = folder_of(artifact_uri)
        if folder is not None:
            artifact_records.relabel(session, folder, _label(name, version), _label(new_name, version))


def _folders(session: Session, name: str) -> list[tuple[int, str]]:
    of_model = select(ModelVersionRow.version, ModelVersionRow.artifact_uri).where(ModelVersionRow.name == name)
    return [(version, uri) for version, uri in session.execute(of_model.order_by(ModelVersionRow.version))]


def _label(name: str, version: int) -> str:
    return f"registered as {name} version {version}"
