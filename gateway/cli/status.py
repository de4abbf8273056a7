"""`titlebout status`."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gateway.cli.client import Client
from gateway.cli.options import server_option


@click.command()
@server_option
@click.option("--json", "as_json", is_flag=True, help="The whole answer, for programs.")
def command(*, server: str, as_json: bool) -> None:
    """Show each endpoint, what it should serve beside what it serves, and what every replica holds in memory."""
    status = Client(server).status()
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"Epoch {status['epoch']}, generation {status['generation']}\n")
    if not status["endpoints"]:
        console.print("No endpoint yet: register a model and set its alias `champion`.")
    else:
        console.print(_endpoints(status["endpoints"]))
    for endpoint in status["endpoints"]:
        for problem in endpoint["problems"]:
            console.print(f"[red]{endpoint['name']}: {problem}[/]", soft_wrap=True)
    for replica in status["replicas"]:
        console.print(_replica(replica))


def _endpoints(endpoints: list[dict[str, Any]]) -> Table:
    table = Table("ENDPOINT", "ARM", "SHARE", "DESIRED", "SERVING", box=None, pad_edge=False)
    for endpoint in endpoints:
        name = endpoint["name"] + (" (stopped)" if endpoint["stopped"] else "")
        for arm, share in sorted(endpoint["shares_bp"].items(), key=lambda item: (item[0] != "champion", item[0])):
            desired, serving = endpoint["desired"].get(arm), endpoint["serving"].get(arm)
            said = _version(serving) if desired == serving else f"[yellow]{_version(serving)}[/]"
            table.add_row(name, arm, f"{share / 100:g} %", _version(desired), said)
            name = ""
    return table


def _replica(replica: dict[str, Any]) -> Table:
    state = f"epoch {replica['epoch']}" if replica["live"] else "[red]not heard of lately[/]"
    table = Table(
        "MODEL", "VERSION", "STATE", "PREDICTOR", "WHY", title=f"\nReplica {replica['id']}: {state}", box=None
    )
    table.title_justify = "left"
    for slot in sorted(replica["slots"], key=lambda slot: (slot["model"], slot["version"])):
        colour = {"READY": "green", "FAILED": "red"}.get(slot["state"], "yellow")
        table.add_row(
            slot["model"],
            str(slot["version"]),
            f"[{colour}]{slot['state']}[/]",
            slot["predictor"] or "",
            slot["reason"] or slot.get("predictor_reason") or "",
        )
    return table


def _version(number: int | None) -> str:
    return "-" if number is None else f"version {number}"
