"""Opens the artifact store that a setting names."""

import os
from collections.abc import Mapping
from pathlib import Path

from tracking.artifact_uris import FileUri, InvalidArtifactUri, S3Uri, parse_artifact_uri
from tracking.artifacts import ArtifactStore
from tracking.encryption import Encryption
from tracking.folder_artifacts import FolderArtifactStore


def open_store(
    root: str,
    environment: Mapping[str, str] = os.environ,
    encryption: Encryption = Encryption(),  # noqa: B008  (frozen)
    clients_endpoint_url: str | None = None,
) -> ArtifactStore:
    """The store at *root*: a folder, ``file:///…``, or ``s3://bucket/prefix`` with AWS's variables in *environment*.

    *encryption* is S3's matter; a folder is encrypted by what it lies on. Touches nothing yet.

    Raises:
        InvalidArtifactUri: if *root* is none of these.
    """
    if ":" not in root:
        return FolderArtifactStore(Path(root))
    match parse_artifact_uri(root):
        case FileUri(path):
            return FolderArtifactStore(path)
        case S3Uri(bucket, prefix):
            # boto3 takes a third of a second and 30 MB to import; only who keeps artifacts in S3 pays for it.
            from tracking.s3_artifacts import S3ArtifactStore  # noqa: PLC0415
            from tracking.s3_client import S3Settings  # noqa: PLC0415

            settings = S3Settings.from_environment(environment)
            return S3ArtifactStore(bucket, prefix, settings, encryption, clients_endpoint_url)
        case _:
            raise InvalidArtifactUri(root, "artifacts can't be kept there")
