"""The files that `titlebout sign` signs and `titlebout verify` compares: the server's list, or those in a folder."""

from pathlib import Path
from typing import Any

import click

from gateway.cli.client import Client
from registry.signing.errors import InvalidSignature, NothingToSign
from tracking.artifact_paths import ArtifactPath
from tracking.manifest import FileDigest, Manifest, read_folder

files_option = click.option(
    "--files",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The version's files on this machine, to be compared with the server's word for them.",
)


def manifest_of(client: Client, model: str, version: int, files: Path | None) -> Manifest:
    """What the version is made of.

    Raises:
        NothingToSign: if the server doesn't know, and *files* doesn't say.
        InvalidSignature: if the two differ.
    """
    known = client.version_files(model, version)
    said = _manifest(known["files"])
    mine = None if files is None else read_folder(files)
    if said is None:
        if mine is None:
            raise NothingToSign(model, version)
        if known["digest"] not in {None, mine.digest}:
            raise InvalidSignature(f"{files} holds other files than those that were registered.")
        return mine
    if mine is not None:
        # More files than were registered do no harm: MLflow's client leaves one of its own in what it downloads.
        differing = [str(path) for path, digest in said.files.items() if mine.files.get(path) != digest]
        if differing:
            raise InvalidSignature(f"{min(differing)!r} in {files} is not the file that was registered.")
    return said


def _manifest(files: list[dict[str, Any]] | None) -> Manifest | None:
    if files is None:
        return None
    return Manifest({ArtifactPath.parse(file["path"]): FileDigest(file["sha256"], file["size"]) for file in files})
