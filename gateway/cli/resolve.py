"""`titlebout resolve`."""

from datetime import UTC, datetime

import click

from gateway.cli.client import Client
from gateway.cli.options import server_option


@click.command()
@click.argument("uri", metavar="models:/NAME@ALIAS")
@click.option("--at", metavar="TIME", help="What an alias meant then: 2026-11-23T14:00, UTC unless it says otherwise.")
@server_option
def command(*, uri: str, at: str | None, server: str) -> None:
    """Print the version, the source and the digest that a model's URI means now, or its alias meant at a past TIME."""
    found = Client(server).resolve(uri, at_ms=None if at is None else _epoch_ms(at))
    click.echo(f"version {found['version']}")
    click.echo(f"source  {found['source']}")
    click.echo(f"digest  {found['digest'] or '- (its files have not been seen yet)'}")


def _epoch_ms(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected a time such as 2026-11-23T14:00.", param_hint="--at") from None
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)
