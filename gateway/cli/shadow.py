"""`titlebout shadow`."""

import json
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from gateway.cli.client import Client
from gateway.cli.numbers import Percent
from gateway.cli.options import server_option
from gateway.cli.tables import table, wide_console


@click.command()
@click.argument("endpoint", metavar="MODEL")
@click.argument("arm", required=False)
@click.option(
    "--share",
    type=Percent(0.01),
    metavar="PERCENT",
    help="Of what other arms are asked.  [default: 100]",
)
@click.option(
    "--keep-inputs",
    type=click.IntRange(0, 100),
    metavar="COUNT",
    help="Keep the inputs that it differs on most; they may be personal.  [default: 0]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    metavar="RELATIVE",
    help="How far apart numbers may be and agree.  [default: 1e-6]",
)
@click.option("--inputs", "action", flag_value="inputs", help="Show the inputs that were kept, as JSON.")
@click.option("--forget", "action", flag_value="forget", help="Drop the inputs that were kept.")
@click.option("--off", "action", flag_value="off", help="Ask no copies any more, and drop the inputs.")
@server_option
def command(
    *,
    endpoint: str,
    arm: str | None,
    share: float | None,
    keep_inputs: int | None,
    tolerance: float | None,
    action: str | None,
    server: str,
) -> None:
    """Have ARM answer a copy of what MODEL's other arms are asked: `titlebout shadow iris-classifier challenger`.

    Nobody waits for those answers. Without ARM it shows how far they lie from the answers that were given.
    """
    client = Client(server)
    wanted = {
        "share_bp": None if share is None else round(share * 100),
        "keep_inputs": keep_inputs,
        "tolerance": tolerance,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    if arm is not None and action is None:
        client.set_shadow(endpoint, {"arm": arm, **given})
        click.echo(
            f"{arm} of {endpoint} is asked a copy of what others answer; `titlebout shadow {endpoint}` shows it."
        )
        return
    if arm is not None or given:
        raise click.UsageError("Name the arm that is to shadow, or ask for one thing at a time.")
    match action:
        case "inputs":
            click.echo(json.dumps(client.shadow_inputs(endpoint), indent=2, ensure_ascii=False))
        case "forget":
            client.forget_shadow_inputs(endpoint)
            click.echo(f"No input is kept of {endpoint} any more; others will be in their place.")
        case "off":
            client.remove_shadow(endpoint)
            click.echo(f"{endpoint} has no shadow.")
        case _:
            _show(client.shadow(endpoint))


def _show(status: dict[str, Any]) -> None:
    shadow = status["shadow"]
    if shadow is None:
        click.echo(
            f"{status['endpoint']} has no shadow: `titlebout shadow {status['endpoint']} ARM` makes one of an arm."
        )
        return
    console = wide_console()
    console.print(
        f"{shadow['arm']} (version {status['version']}) is asked {shadow['share_bp'] / 100:g} % of what others answer, "
        f"{shadow['keep_inputs'] or 'no'} inputs kept",
        markup=False,
        soft_wrap=True,
    )
    if not status["is_in_force"]:
        console.print("It isn't asked yet: its version is on its way into memory; `titlebout status` says how far.")
    if not status["beside"]:
        console.print("Nothing has been compared yet.")
        return
    console.print(_pairs(status["beside"]))
    console.print()
    console.print(_latencies(status["beside"]))
    for pair in status["beside"]:
        for output in pair["outputs"]:
            if output["numbers"]:
                console.print(_differences(pair, output), markup=False, soft_wrap=True)


def _pairs(pairs: list[dict[str, Any]]) -> Table:
    shown = table("BESIDE", "COMPARED", "AGREED", "FAILED", "DROPPED")
    for pair in pairs:
        shown.add_row(
            Text(_named(pair)),
            f"{pair['compared']:,}",
            "-" if pair["agreement"] is None else f"{pair['agreement']:.2%}",
            f"{pair['failed']:,}",
            f"{pair['dropped']:,}",
        )
    return shown


def _latencies(pairs: list[dict[str, Any]]) -> Table:
    """Of the answers that were given, and of its own."""
    shown = table("BESIDE", "P50", "ITS P50", "P99", "ITS P99")
    for pair in pairs:
        latency = pair["latency"]
        times = [latency[f"{who}_p{share}_s"] for share in (50, 99) for who in ("given", "shadow")]
        said = ("-" if seconds is None else f"{seconds * 1000:.3g} ms" for seconds in times)
        shown.add_row(Text(_named(pair)), *said)
    return shown


def _named(pair: dict[str, Any]) -> str:
    return f"{pair['arm']}, version {pair['version']}"


def _differences(pair: dict[str, Any], output: dict[str, Any]) -> str:
    name = output["name"] or "Its answer"
    mean, mean_absolute = ("-" if output[each] is None else f"{output[each]:.4g}" for each in ("mean", "mean_absolute"))
    return (
        f"{name}, beside {pair['arm']} {pair['version']}: {mean} on average, {mean_absolute} either way, "
        f"{output['largest']:.4g} at most"
    )
