"""`titlebout verify`."""

import time
from pathlib import Path

import click

from gateway.cli.client import Client
from gateway.cli.numbers import VersionNumber
from gateway.cli.options import server_option
from gateway.cli.signed_files import files_option, manifest_of
from registry.signing.keys import trusted_keys
from registry.signing.verification import signer_of


@click.command()
@click.argument("model")
@click.argument("version", type=VersionNumber())
@click.option(
    "--keys",
    required=True,
    envvar="TITLEBOUT_TRUSTED_KEYS",
    show_envvar=True,
    metavar="DIR",
    help="The folder of the public keys that you trust.",
)
@files_option
@server_option
def command(*, model: str, version: int, keys: str, files: Path | None, server: str) -> None:
    """Say which of the keys in a folder has signed a version. The status is 1, with the reason, if none has."""
    client = Client(server)
    manifest = manifest_of(client, model, version, files)
    found = client.signatures(model, version)
    bundles = [signature["bundle"] for signature in found]
    signer = signer_of((model, version), manifest, bundles, trusted_keys(keys), int(time.time() * 1000))
    author = next(signature["author"] for signature in found if signature["key_id"] == signer.key_id)
    click.echo(f"Version {version} of {model} is signed by {signer.key} (key {signer.key_id[:12]}).")
    click.echo(f"files      {len(manifest.files)}, digest {manifest.digest}")
    click.echo(f"brought by {author}")
