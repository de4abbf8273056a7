"""Listings of artifacts as MLflow's client reads them (mlflow/protos/service.proto, by its JSON form)."""

import msgspec

from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import Entry


class FileInfo(msgspec.Struct, omit_defaults=True):
    """A name in a folder; ``file_size`` is there for files alone."""

    path: str
    is_dir: bool
    file_size: int | None = None


class ListedArtifacts(msgspec.Struct):
    files: list[FileInfo]


class OwnedArtifacts(msgspec.Struct, omit_defaults=True):
    """A folder of a run or of a logged model; paths go from its artifact root."""

    root_uri: str
    files: list[FileInfo]
    next_page_token: str | None = None


def folder_named(path: str | None) -> ArtifactPath | None:
    # A slash at the end of a folder's name is common, and harmless.
    text = (path or "").removesuffix("/")
    return ArtifactPath.parse(text) if text else None


def file_info(path: str, entry: Entry) -> FileInfo:
    return FileInfo(path, is_dir=entry.is_dir, file_size=entry.size)
