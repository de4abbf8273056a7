"""`titlebout resolve`."""

import click

from gateway.cli.client import Client
from gateway.cli.options import server_option


@click.command()
@click.argument("uri", metavar="models:/NAME@ALIAS")
@server_option
def command(*, uri: str, server: str) -> None:
    """Print the version, the source and the digest that a model's URI means now."""
    found = Client(server).resolve(uri)
    click.echo(f"version {found['version']}")
    click.echo(f"source  {found['source']}")
    click.echo(f"digest  {found['digest'] or '- (its files have not been seen yet)'}")
