"""`titlebout gate`."""

import re
from typing import Any

import click

from gateway.cli.access_tables import show
from gateway.cli.client import Client
from gateway.cli.options import server_option
from registry.entities import CHAMPION

_METRIC = re.compile(r"(?P<metric>.+?)\s*(?P<comparator>>=|<=|>|<)\s*(?P<value>[-+0-9.eE]+)")
_APPROVALS = re.compile(r"(?:(?P<count>[0-9]+)\s+)?approvals?")


@click.group()
def command() -> None:
    """What must hold of a version before an alias means it, or an arm of it takes more than some share."""


@command.command("list")
@click.argument("model")
@server_option
def list_gates(*, model: str, server: str) -> None:
    """Show the gates of MODEL."""
    gates = Client(server).gates(model)
    if not gates:
        click.echo(f"{model} has no gate: whoever may set an alias sets it.")
        return
    show(("GATE", "NEEDS", "BEFORE"), ((gate["name"], _needs(gate), _before(gate)) for gate in gates))


@command.command("set")
@click.argument("model")
@click.argument("gate")
@click.argument("needs", metavar="NEEDS")
@click.option(
    "--alias", "aliases", multiple=True, metavar="ALIAS", help="Before this alias moves.  [default: champion]"
)
@click.option(
    "--share-over",
    type=click.FloatRange(0, 100, max_open=True),
    metavar="PERCENT",
    help="Before an arm has more than this share; without --alias, of shares alone.",
)
@server_option
def set_gate(
    *, model: str, gate: str, needs: str, aliases: tuple[str, ...], share_over: float | None, server: str
) -> None:
    """Have GATE hold for MODEL: NEEDS is a metric, as in 'accuracy >= 0.9', or 'approval', or '2 approvals'.

    What aliases mean already stays. Whoever moves an alias is then refused with what is missing, whichever way they do.
    """
    asked: dict[str, Any] = {"needs": _read(needs), "aliases": list(aliases)}
    if share_over is None:
        asked["aliases"] = list(aliases or (CHAMPION,))
    else:
        asked["share_over_bp"] = round(share_over * 100)
    made = Client(server).set_gate(model, gate, asked)
    click.echo(f"{model}: {_needs(made)}, before {_before(made)}.")


@command.command("remove")
@click.argument("model")
@click.argument("gate")
@server_option
def remove_gate(*, model: str, gate: str, server: str) -> None:
    """Let MODEL go without GATE."""
    Client(server).remove_gate(model, gate)
    click.echo(f"{model} has no gate {gate} any more.")


def _read(needs: str) -> dict[str, Any]:
    if found := _APPROVALS.fullmatch(needs.strip()):
        return {"kind": "approval", "count": int(found["count"] or 1)}
    found = _METRIC.fullmatch(needs.strip())
    value = _number(found["value"]) if found else None
    if found is None or value is None:
        raise click.BadParameter(
            f"{needs!r}: expected a metric, as in 'accuracy >= 0.9', or 'approval', or '2 approvals'.",
            param_hint="NEEDS",
        )
    return {"kind": "metric", **found.groupdict(), "value": value}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _needs(gate: dict[str, Any]) -> str:
    needs = gate["needs"]
    if needs["kind"] == "metric":
        return f"{needs['metric']} {needs['comparator']} {needs['value']:g}"
    return "1 approval" if needs["count"] == 1 else f"{needs['count']} approvals"


def _before(gate: dict[str, Any]) -> str:
    said = [f"{alias} moves" for alias in gate["aliases"]]
    if gate["share_over_bp"] is not None:
        said.append(f"an arm has over {gate['share_over_bp'] / 100:g} %")
    return ", or ".join(said)
