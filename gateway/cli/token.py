"""`titlebout token`."""

import click

from gateway.cli.client import Client
from gateway.cli.groups import Group
from gateway.cli.options import server_option
from gateway.cli.tables import day, show


@click.group(cls=Group)
def command() -> None:
    """Tokens: what MLflow's client takes as MLFLOW_TRACKING_TOKEN, and these verbs with it."""


@command.command("list")
@click.option("--user", help="Whose; your own without it.")
@server_option
def list_(user: str | None, server: str) -> None:
    """Tokens that haven't been revoked."""
    rows = [
        (
            token["id"],
            token["name"],
            token["beginning"] + "…",
            "all that its user may" if token["scope"] is None else ", ".join(token["scope"]) or "nothing",
            day(token["expires_ms"]),
            day(token["last_used_ms"]),
        )
        for token in Client(server).tokens(user)
    ]
    show(("id", "name", "begins", "may", "expires (UTC)", "last used"), rows)


@command.command()
@click.argument("name")
@click.option("--user", help="Whose; your own without it.")
@click.option("--days", type=float, default=90, show_default=True, help="How long it lives; 366 at most.")
@click.option("--may", multiple=True, metavar="GRANT", help="What it may do; all that its user may without it.")
@server_option
def create(*, name: str, user: str | None, days: float, may: tuple[str, ...], server: str) -> None:
    """Make a token called NAME, and show it this once."""
    made = Client(server).add_token(name=name, user=user, days=days, scope=list(may) or None)
    click.echo(f"Shown this once, and good until {day(made['expires_ms'])} UTC:", err=True)
    click.echo(made["secret"])


@command.command()
@click.argument("token_id", metavar="ID")
@server_option
def revoke(token_id: str, server: str) -> None:
    """Take a token back."""
    Client(server).revoke_token(token_id)
    click.echo("It is revoked, on all replicas within two seconds.")
