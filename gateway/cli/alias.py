"""`titlebout alias`."""

import click

from gateway.cli.client import Client
from gateway.cli.options import server_option


@click.command()
@click.argument("model")
@click.argument("alias")
@click.argument("version", type=click.IntRange(min=1))
@server_option
def command(*, model: str, alias: str, version: int, server: str) -> None:
    """Point ALIAS of MODEL at VERSION.

    An arm's alias (champion, challenger) moves traffic: the version is loaded beside the one that serves, and takes
    over once it is ready. `titlebout status` shows how far it is.
    """
    client = Client(server)
    client.set_alias(model, alias, version)
    click.echo(f"{model}@{alias} is version {version}.")
    arms = next((e["shares_bp"] for e in client.status()["endpoints"] if e["model"] == model), None)
    if arms is not None and alias not in arms:
        click.echo(f"It is no arm ({', '.join(sorted(arms))}), so no traffic moves.")
