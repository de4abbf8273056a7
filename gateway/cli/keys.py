"""`titlebout keys`."""

import click

from gateway.cli.client import Client
from gateway.cli.groups import Group
from gateway.cli.options import server_option
from gateway.cli.tables import day, show


@click.group(cls=Group)
def command() -> None:
    """Keys that the ids of predictions are signed with. Those with which applications ask are `titlebout key`."""


@command.command("list")
@server_option
def list_(server: str) -> None:
    """The key that signs, and those whose ids still count; never their secrets."""
    rows = [
        (key["id"], day(key["made_ms"]), "signs" if key["retired_ms"] is None else day(key["retired_ms"]))
        for key in Client(server).prediction_keys()
    ]
    show(("key", "made (UTC)", "given up"), rows)


@command.command()
@click.option("--forget-old", is_flag=True, help="Take no feedback any more for what older keys have signed.")
@server_option
def rotate(*, forget_old: bool, server: str) -> None:
    """Have a new key sign; ids that older ones signed go on counting for as long as feedback is taken."""
    made = Client(server).rotate_prediction_keys(forget_old=forget_old)
    old = "older ids count no more" if forget_old else "older ids go on counting"
    click.echo(f"The key {made['id']} signs on all replicas within two seconds; {old}.")
