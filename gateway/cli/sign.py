"""`titlebout sign`."""

from pathlib import Path

import click

from gateway.cli.client import Client
from gateway.cli.numbers import VersionNumber
from gateway.cli.options import server_option
from gateway.cli.signed_files import files_option, manifest_of
from registry.signing.bundle import write_bundle
from registry.signing.keys import new_key, read_signing_key
from registry.signing.statement import statement_of


def _make_key(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is not None:
        public = new_key(path)
        click.echo(f"{path} is the key: keep it where no server reaches it.")
        click.echo(f"{public} goes into the folder that TITLEBOUT_TRUSTED_KEYS names.")
        context.exit()


@click.command()
@click.argument("model")
@click.argument("version", type=VersionNumber())
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    required=True,
    envvar="TITLEBOUT_SIGNING_KEY",
    show_envvar=True,
    metavar="FILE",
    help="The private key, PEM. Its password, if it has one, is asked for.",
)
@files_option
@click.option(
    "--new-key",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_make_key,
    metavar="FILE",
    help="Make a key there and its public half beside it, and sign nothing.",
)
@server_option
def command(*, model: str, version: int, key_file: Path, files: Path | None, server: str) -> None:
    """Sign what a version is made of: its name, its number and the SHA-256 of each of its files.

    The key stays here. Without --files the list is the server's word, which you vouch for by signing it.
    """
    key = read_signing_key(key_file, lambda: click.prompt("Password of the key", hide_input=True))
    client = Client(server)
    manifest = manifest_of(client, model, version, files)
    client.put_signature(model, version, write_bundle(key.sign(statement_of((model, version), manifest))))
    click.echo(f"Version {version} of {model} is signed by the key {key.key_id[:12]} (files: {len(manifest.files)}).")
