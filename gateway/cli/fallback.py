"""`titlebout fallback`."""

import click

from gateway.cli.client import Client
from gateway.cli.options import server_option


@click.command()
@click.argument("endpoint", metavar="MODEL")
@click.argument("wanted", metavar="on|off", type=click.Choice(["on", "off"]))
@server_option
def command(*, endpoint: str, wanted: str, server: str) -> None:
    """Have MODEL's champion answer where another arm fails: `titlebout fallback iris-classifier on`.

    Only for requests that the split gave to the arm. Its failure counts against it, and half of a request's time is
    kept for the champion.
    """
    Client(server).set_fallback(endpoint, on=wanted == "on")
    answers = "answers" if wanted == "on" else "doesn't answer"
    click.echo(f"{endpoint}: the champion {answers} where another arm fails")
