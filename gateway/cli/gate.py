"""`titlebout gate`."""

from typing import Any

import click
import msgspec

from gateway.cli.client import Client
from gateway.cli.groups import Group
from gateway.cli.numbers import Percent
from gateway.cli.options import server_option
from gateway.cli.tables import show
from registry import gate_words
from registry.entities import CHAMPION, Gate, Need


@click.group(cls=Group)
def command() -> None:
    """What must hold of a version before an alias means it, or it takes more than some share."""


@command.command("list")
@click.argument("model")
@server_option
def list_gates(*, model: str, server: str) -> None:
    """Show the gates of MODEL."""
    gates = [_gate(answer) for answer in Client(server).gates(model)]
    if not gates:
        click.echo(f"{model} has no gate: whoever may set an alias sets it.")
        return
    show(
        ("GATE", "NEEDS", "BEFORE"),
        ((gate.name, gate_words.words(gate.needs), gate_words.before(gate)) for gate in gates),
    )


@command.command("set")
@click.argument("model")
@click.argument("gate")
@click.argument("needs", metavar="NEEDS")
@click.option(
    "--alias", "aliases", multiple=True, metavar="ALIAS", help="Before this alias moves.  [default: champion]"
)
@click.option(
    "--share-over",
    type=Percent(0, 99.99),
    metavar="PERCENT",
    help="Before a version has more than this share, is pinned or asked by name; without --alias, before that alone.",
)
@server_option
def set_gate(
    *, model: str, gate: str, needs: str, aliases: tuple[str, ...], share_over: float | None, server: str
) -> None:
    """Have GATE hold for MODEL until a version has what it NEEDS.

    NEEDS is a metric of its run, as in 'accuracy >= 0.9'; the word of those who didn't register it, as in 'approval' or
    '2 approvals'; a 'signature' compatible with the champion's; a passed 'load test within 14d' of its very files; or
    the comparison with the champion, as in 'accuracy better', 'accuracy not worse' or 'accuracy better within 48h'.

    What aliases mean already stays. Whoever moves an alias is then refused with what is missing, whichever way they do.
    """
    asked: dict[str, Any] = {"needs": msgspec.to_builtins(_read(needs)), "aliases": list(aliases)}
    if share_over is None:
        asked["aliases"] = list(aliases or (CHAMPION,))
    else:
        asked["share_over_bp"] = round(share_over * 100)
    client = Client(server)
    made = _gate(client.set_gate(model, gate, asked))
    click.echo(f"{model}: {gate_words.words(made.needs)}, before {gate_words.before(made)}.")
    if client.find_model(model) is None:
        click.echo(f"There is no model {model} yet; the gate holds for it from the first version on.")


@command.command("remove")
@click.argument("model")
@click.argument("gate")
@server_option
def remove_gate(*, model: str, gate: str, server: str) -> None:
    """Let MODEL go without GATE."""
    Client(server).remove_gate(model, gate)
    click.echo(f"{model} has no gate {gate} any more.")


def _read(text: str) -> Need:
    needs = gate_words.read(text)
    if needs is None:
        raise click.BadParameter(f"{text!r}: expected one like {gate_words.FORMS}.", param_hint="NEEDS")
    return needs


def _gate(answer: dict[str, Any]) -> Gate:
    return msgspec.convert(answer, Gate)
