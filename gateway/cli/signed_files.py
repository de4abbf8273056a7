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
    help="The version's files on this machine, instead of the server's word for them; both must agree.",
)


def manifest_of(client: Client, model: str, version: int, files: Path | None) -> Manifest:
    """What the version is made of.

    Raises:
        NothingToSign: if the server doesn't know, and *files* doesn't say.
        InvalidSignature: if the two differ.
    """
    said = _manifest(client.version_files(model, version)["files"])
    mine = None if files is None else read_folder(files)
    if said is None and mine is None:
        raise NothingToSign(model, version)
    if said is not None and mine is not None and said != mine:
        differing = {path for path, _ in said.files.items() ^ mine.files.items()}
        raise InvalidSignature(
            f"{files} doesn't hold the files that were registered: {min(map(str, differing))!r} differs."
        )
    return mine or said or Manifest({})


def _manifest(files: list[dict[str, Any]] | None) -> Manifest | None:
    if files is None:
        return None
    return Manifest({ArtifactPath.parse(file["path"]): FileDigest(file["sha256"], file["size"]) for file in files})
