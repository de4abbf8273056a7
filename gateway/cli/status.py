"""`titlebout status`."""

import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gateway.cli.client import Client
from gateway.cli.options import server_option
from gateway.cli.tables import table, wide_console


@click.command()
@server_option
@click.option("--json", "as_json", is_flag=True, help="The whole answer, for programs.")
def command(*, server: str, as_json: bool) -> None:
    """Show each endpoint, what it should serve beside what it serves, and what every replica holds in memory."""
    status = Client(server).status()
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    console = wide_console()
    console.print(f"Epoch {status['epoch']}, generation {status['generation']}\n")
    if not status["endpoints"]:
        console.print("No endpoint yet: register a model and set its alias `champion`.")
    else:
        console.print(_endpoints(status["endpoints"]))
    for endpoint in status["endpoints"]:
        for problem in endpoint["problems"]:
            console.print(f"{endpoint['name']}: {problem}", style="red", markup=False, soft_wrap=True)
    for replica in status["replicas"]:
        _show_replica(console, replica)


def _show_replica(console: Console, replica: dict[str, Any]) -> None:
    state = f"epoch {replica['epoch']}" if replica["live"] else "[red]not heard of lately[/]"
    console.print(f"\nReplica {replica['id']}: {state}", soft_wrap=True)
    slots = sorted(replica["slots"], key=lambda slot: (slot["model"], slot["version"]))
    if slots:
        console.print(_slots(slots))
    for slot in slots:
        if why := _why(slot):
            console.print(f"{slot['model']} {slot['version']}: {why}", markup=False, soft_wrap=True)
    for line in _held_to(slots):
        console.print(line, style="dim", soft_wrap=True)


def _endpoints(endpoints: list[dict[str, Any]]) -> Table:
    shown = table("ENDPOINT", "ARM", "SHARE", "DESIRED", "SERVING")
    for endpoint in endpoints:
        states = [word for word in ("stopped", "fallback") if endpoint.get(word)]
        name = endpoint["name"] + (f" ({', '.join(states)})" if states else "")
        for arm, share in sorted(endpoint["shares_bp"].items(), key=lambda item: (item[0] != "champion", item[0])):
            desired, serving = endpoint["desired"].get(arm), endpoint["serving"].get(arm)
            said = _version(serving) if desired == serving else f"[yellow]{_version(serving)}[/]"
            shown.add_row(name, _arm(arm, endpoint.get("shadow")), f"{share / 100:g} %", _version(desired), said)
            name = ""
    return shown


def _arm(arm: str, shadow: dict[str, Any] | None) -> str:
    return f"{arm} (shadow)" if shadow is not None and shadow["arm"] == arm else arm


def _slots(slots: list[dict[str, Any]]) -> Table:
    shown = table("MODEL", "VERSION", "STATE", "MEMORY", "PREDICTOR")
    for slot in slots:
        colour = {"READY": "green", "FAILED": "red"}.get(slot["state"], "yellow")
        shown.add_row(
            slot["model"],
            str(slot["version"]),
            f"[{colour}]{slot['state']}[/]",
            _mebibytes(slot.get("memory_bytes")),
            slot["predictor"] or "",
        )
    return shown


def _held_to(slots: list[dict[str, Any]]) -> list[str]:
    """What the processes of models are held to: a line for all, or one for those that are held alike."""
    alike: dict[str, list[str]] = {}
    for slot in slots:
        if confinement := slot.get("confinement"):
            text = ", ".join(f"{what}: {how}" for what, how in confinement.items())
            alike.setdefault(text, []).append(f"{slot['model']} {slot['version']}")
    if len(alike) == 1:
        return [f"Held to {text}" for text in alike]
    return [f"{', '.join(sorted(versions))} held to {text}" for text, versions in alike.items()]


def _why(slot: dict[str, Any]) -> str:
    """Why it isn't in memory and when that is tried again, or why nothing faster answers."""
    reason = slot["reason"] or slot.get("predictor_reason") or ""
    if not slot.get("next_try_ms"):
        return str(reason)
    wait_s = max(0.0, slot["next_try_ms"] / 1000 - time.time())
    return f"{reason} Next try in {wait_s:.0f} s."


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1024**2:.0f} MiB"


def _version(number: int | None) -> str:
    return "-" if number is None else f"version {number}"
