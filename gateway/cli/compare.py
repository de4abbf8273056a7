"""`titlebout compare`."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.client import Client
from gateway.cli.options import server_option
from gateway.cli.tables import table, wide_console
from gateway.comparison.interval_words import spoken

_WATCH_S = 2.0
_CLASSES_SHOWN = 3
_COLOURS = {"better": "green", "worse": "red", "not_yet": "yellow"}


@click.command()
@click.argument("endpoint", metavar="MODEL")
@click.argument("challenger", metavar="[ARM]", required=False)
@click.option("--metric", metavar="NAME", help="What to conclude by: accuracy, failure_rate, …  [default: the labels']")
@click.option(
    "--minimal-effect",
    type=float,
    default=0.0,
    metavar="NUMBER",
    help="The least difference that matters.  [default: 0]",
)
@click.option("--rewards", metavar="LOWEST:HIGHEST", help="Between which all rewards lie, so that few say something.")
@click.option("--versions", metavar="OLD:NEW", help="Compare these, whatever the aliases mean now.")
@click.option("--json", "as_json", is_flag=True, help="The whole answer, for programs.")
@click.option("--watch", is_flag=True, help="Look again every two seconds; looking costs nothing.")
@server_option
def command(
    *,
    endpoint: str,
    challenger: str | None,
    metric: str | None,
    minimal_effect: float,
    rewards: str | None,
    versions: str | None,
    as_json: bool,
    watch: bool,
    server: str,
) -> None:
    """Say whether MODEL's challenger is better than its champion, and show what that rests on.

    The intervals hold whenever one looks, so that anybody may look at any time, and stop at any time.
    """
    client = Client(server)
    old, new = _versions(versions)
    lowest, highest = _bounds(rewards)
    asked = {
        "challenger": challenger,
        "metric": metric,
        "minimal_effect": minimal_effect,
        "champion_version": old,
        "challenger_version": new,
        "lowest_reward": lowest,
        "highest_reward": highest,
    }

    def look() -> dict[str, Any]:
        return client.comparison(endpoint, **asked)

    if as_json:
        click.echo(json.dumps(look(), indent=2))
        return
    console = wide_console()
    if watch:
        watch_conclusion(console, look)
    else:
        console.print(shown(look()))


def _versions(said: str | None) -> tuple[int | None, int | None]:
    if said is None:
        return None, None
    old, _, new = said.partition(":")
    if not old.isdecimal() or not new.isdecimal():
        raise click.BadParameter(f"{said!r}: expected two versions as 3:4.", param_hint="--versions")
    return int(old), int(new)


def _bounds(said: str | None) -> tuple[float | None, float | None]:
    if said is None:
        return None, None
    lowest, _, highest = said.partition(":")
    try:
        return float(lowest), float(highest)
    except ValueError:
        raise click.BadParameter(f"{said!r}: expected two numbers as 0:1.", param_hint="--rewards") from None


def watch_conclusion(
    console: Console, look: Callable[[], dict[str, Any]], *, pause: Callable[[float], None] = time.sleep
) -> None:
    """Until interrupted: on a terminal all of it in place, elsewhere a line for each change of the conclusion."""
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal:
            with Live(shown(look()), console=console, auto_refresh=False) as live:
                while True:
                    pause(_WATCH_S)
                    live.update(shown(look()), refresh=True)
        said = ""
        while True:
            if (conclusion := look()["conclusion"]) != said:
                console.print(conclusion, soft_wrap=True, markup=False)
                said = conclusion
            pause(_WATCH_S)


def shown(found: dict[str, Any]) -> RenderableType:
    """The conclusion in a line, and below it what it rests on."""
    colour = "red" if found["split"]["locked"] else _COLOURS[found["verdict"]]
    return Group(
        Text(found["conclusion"], style=f"bold {colour}", overflow="fold"),
        Text(found["reason"][:1].upper() + found["reason"][1:] + "."),
        Text(),
        *((_metrics(found), Text()) if found["metrics"] else ()),
        _arms(found),
        *(Text(line, style="dim") for line in _notes(found)),
    )


def _metrics(found: dict[str, Any]) -> Table:
    shown = table("METRIC", "CHAMPION", "CHALLENGER", "DIFFERENCE", "INTERVAL (95%)", "VERDICT")
    for metric in found["metrics"]:
        verdict = "alike" if metric["alike"] else metric["verdict"].replace("_", " ")
        shown.add_row(
            metric["metric"],
            _number(metric["champion"]),
            _number(metric["challenger"]),
            _signed(metric["difference"]),
            spoken(metric["lower"], metric["upper"], "+.4g") or "-",
            Text(verdict, style=_COLOURS[metric["verdict"]]),
        )
    return shown


def _arms(found: dict[str, Any]) -> Table:
    shown = table("ARM", "VERSION", "SHARE", "REQUESTS", "FAILED", "P50 ms", "P90 ms", "P99 ms")
    for arm in _both(found):
        latency = arm["latency"]
        failed = "" if arm["failure_rate"] is None else f"{arm['failures']:,} ({arm['failure_rate']:.2%})"
        shown.add_row(
            Text(arm["arm"]),
            str(arm["version"]),
            f"{arm['share_bp'] / 100:g} %",
            f"{arm['requests']:,}",
            failed,
            *(_ms(latency[name]) for name in ("p50_ms", "p90_ms", "p99_ms")),
        )
    return shown


def _both(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return found["champion"], found["challenger"]


def _notes(found: dict[str, Any]) -> Iterator[str]:
    yield ""
    if found["champion"]["version"] == found["challenger"]["version"]:
        yield f"`titlebout compare {found['endpoint']} --versions OLD:NEW` names them."
    yield from _counted(found)
    telling = next((metric for metric in found["metrics"] if metric["metric"] == found["metric"]), None)
    needed = telling and telling["needed"]
    if needed and needed["more"]:
        more, difference = f"{needed['more']:,}", needed["difference"]
        yield f"Some {more} more would show a difference of {difference:.3g} with a power of 80 %."
    if telling and telling["design_effect"] > 1.5:
        yield f"Callers come back: {telling['design_effect']:.1f} requests say as much as one of a stranger."
    for name, ratio in (("Failures", found["failure_ratio"]), ("p99", found["p99_ratio"])):
        if known := spoken(ratio["lower"], ratio["upper"], ".2f", floor=0.0):
            yield f"{name}: {known} times the champion's."
    calibrations = [arm["calibration"] for arm in _both(found)]
    if all(calibrations):
        yield "Calibration error (ECE): " + " and ".join(f"{each['ece']:.3f}" for each in calibrations) + "."
    yield from _chosen(found)


def _counted(found: dict[str, Any]) -> Iterator[str]:
    """What the figures rest on, and what was predicted."""
    numbers = [
        f"{metric['metric']} {metric['champion_n'] + metric['challenger_n']:,.0f}" for metric in found["metrics"]
    ]
    if numbers:
        yield f"Counted of both arms: {', '.join(numbers)}."
    for arm in _both(found):
        if predicted := _predicted(arm["predictions"]):
            yield f"Predicted by {arm['arm']}: {predicted}."


def _predicted(predictions: dict[str, Any]) -> str:
    if numbers := predictions["numbers"]:
        return ", ".join(f"{name} {_number(numbers[name])}" for name in ("p10", "p50", "p90"))
    classes = predictions["classes"]
    total = sum(classes.values()) + predictions["other_classes"]
    shares = [f"{name} {count / total:.0%}" for name, count in list(classes.items())[:_CLASSES_SHOWN]]
    return ", ".join([*shares, "…"] if len(classes) > _CLASSES_SHOWN else shares)


def _chosen(found: dict[str, Any]) -> Iterator[str]:
    """How the traffic was split, and what isn't compared here."""
    split, periods = found["split"], found["periods"]
    if split["observed"] is not None:
        yield f"The split asked for {split['asked']:.2%} and gave {split['observed']:.2%} (p = {split['p_value']:.2g})."
    if found["others"]:
        yield f"Arms that could be compared as well: {', '.join(found['others'])}."
    if periods["left_out"]:
        left_out = ", ".join(map(str, periods["left_out"]))
        yield f"Periods {left_out} of the split aren't counted, as other versions answered in them too."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4g}"


def _ms(value: float | None) -> str:
    # Three digits say enough, and 1.23e+03 says it badly.
    return "-" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"
