"""`titlebout key`."""

from typing import Any

import click

from gateway.cli.client import Client
from gateway.cli.groups import Group
from gateway.cli.options import server_option
from gateway.cli.tables import day, show


@click.group(cls=Group)
def command() -> None:
    """Keys with which applications ask endpoints, and can do nothing else."""


@command.command("list")
@server_option
def list_(server: str) -> None:
    """Keys that haven't been revoked."""
    rows = [
        (
            key["name"],
            key["beginning"] + "…",
            ", ".join(key["endpoints"]),
            _choices(key),
            "any" if key["rate"] is None else f"{key['rate']:g}",
            day(key["expires_ms"]),
            day(key["last_used_ms"]),
        )
        for key in Client(server).scoring_keys()
    ]
    show(("name", "begins", "endpoints", "may choose", "a second", "expires (UTC)", "last used"), rows)


@command.command()
@click.argument("name")
@click.argument("endpoints", nargs=-1, required=True)
@click.option("--rate", type=float, help="Requests a second that each replica answers; any number without it.")
@click.option("--days", type=float, help="How long it lives; without an end otherwise.")
@click.option("--may-force", is_flag=True, help="Let it say which arm answers.")
@click.option("--may-pin", is_flag=True, help="Let it say which version answers.")
@server_option
def create(
    *,
    name: str,
    endpoints: tuple[str, ...],
    rate: float | None,
    days: float | None,
    may_force: bool,
    may_pin: bool,
    server: str,
) -> None:
    """Make a key called NAME for ENDPOINTS, and show it this once: `titlebout key create shop 'iris-*' --rate 100`."""
    made = Client(server).add_key(
        name=name, endpoints=endpoints, rate=rate, days=days, may_force=may_force, may_pin=may_pin
    )
    click.echo(
        "Shown this once, known within two seconds; sent as `Authorization: Bearer KEY` or `X-Titlebout-Key: KEY`:",
        err=True,
    )
    click.echo(made["secret"])


@command.command()
@click.argument("name")
@server_option
def revoke(name: str, server: str) -> None:
    """Take a key back."""
    Client(server).revoke_key(name)
    click.echo("It is revoked, on all replicas within two seconds.")


def _choices(key: dict[str, Any]) -> str:
    return " and ".join(what for what, may in (("arms", key["may_force"]), ("versions", key["may_pin"])) if may) or "-"
