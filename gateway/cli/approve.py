"""`titlebout approve`."""

from typing import Any

import click

from gateway.cli.client import Client
from gateway.cli.numbers import VersionNumber
from gateway.cli.options import reason_option, server_option
from gateway.cli.tables import day, show


@click.command()
@click.argument("model")
@click.argument("version", type=VersionNumber())
@click.option("--withdraw", is_flag=True, help="Take your approval back; what it let through stays.")
@click.option("--list", "lists", is_flag=True, help="Show who approves of it, and give no word of your own.")
@reason_option
@server_option
def command(*, model: str, version: int, withdraw: bool, lists: bool, reason: str | None, server: str) -> None:
    """Vouch for VERSION of MODEL in your own name, where a gate asks for approvals. Its author's own doesn't count."""
    client, model = Client(server), model.removeprefix("models:/")
    if withdraw and lists:
        raise click.UsageError("--withdraw and --list are contrary.")
    if lists:
        _list(client.approvals(model, version), f"version {version} of {model}")
    elif withdraw:
        client.withdraw_approval(model, version)
        click.echo(f"Your approval of version {version} of {model} is taken back.")
    else:
        author = client.approve(model, version, reason)["author"]
        click.echo(f"Version {version} of {model} is approved by {author}.")


def _list(approvals: list[dict[str, Any]], of_what: str) -> None:
    if not approvals:
        click.echo(f"Nobody approves of {of_what} yet.")
        return
    show(("BY", "AT", "REASON"), ((one["author"], day(one["created_ms"]), one["reason"] or "") for one in approvals))
