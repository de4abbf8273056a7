"""`titlebout approve`."""

import click

from gateway.cli.client import Client
from gateway.cli.numbers import VersionNumber
from gateway.cli.options import reason_option, server_option


@click.command()
@click.argument("model")
@click.argument("version", type=VersionNumber())
@click.option("--withdraw", is_flag=True, help="Take your approval back; what it let through stays.")
@reason_option
@server_option
def command(*, model: str, version: int, withdraw: bool, reason: str | None, server: str) -> None:
    """Vouch for VERSION of MODEL in your own name, where a gate asks for approvals. Its author's own doesn't count."""
    client, model = Client(server), model.removeprefix("models:/")
    if withdraw:
        client.withdraw_approval(model, version)
        click.echo(f"Your approval of version {version} of {model} is taken back.")
    else:
        author = client.approve(model, version, reason)["author"]
        click.echo(f"Version {version} of {model} is approved by {author}.")
