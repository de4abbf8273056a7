"""`titlebout rollback`."""

import click
from rich.console import Console

from gateway.cli.client import Client
from gateway.cli.following import Flip, follow
from gateway.cli.options import server_option
from registry.entities import CHAMPION

# A switch of table takes three polls. What takes longer than this is a replica that isn't there.
_TIMEOUT_S = 30.0


@click.command()
@click.argument("endpoint", metavar="MODEL")
@server_option
def command(*, endpoint: str, server: str) -> None:
    """Answer from the champion before again, while it is still in memory.

    It is a switch of table, not a load, and the alias `champion` goes back with it. A promotion that isn't in force
    yet is what is taken back, if there is one. The status is 1, with the reason, when there is nothing to go back to.
    """
    client, console = Client(server), Console(highlight=False, soft_wrap=True, markup=False)
    status = client.endpoint(endpoint)
    # So that of two who do this at once only one does it.
    expected = status["desired"].get(CHAMPION, status["serving"].get(CHAMPION))
    taken = client.roll_back(endpoint, expected_version=expected)
    version = taken["version"]
    console.print(f"{taken['model']}@{CHAMPION} is version {version} again, and not {taken['left']}.")
    flip = Flip(endpoint=endpoint, model=taken["model"], arm=CHAMPION, version=version)
    epoch = follow(client, console, flip, timeout_s=_TIMEOUT_S)
    console.print(f"Version {version} answers as {CHAMPION}, epoch {epoch}.")
