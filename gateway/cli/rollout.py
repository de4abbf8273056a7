"""`titlebout rollout`."""

from typing import Any

import click
import msgspec
from rich.console import Console

from gateway.cli.client import Client
from gateway.cli.durations import Duration
from gateway.cli.groups import Group
from gateway.cli.numbers import Percent, VersionNumber, read_percent
from gateway.cli.options import override_option, reason_option, server_option
from gateway.cli.rollout_following import follow, line_of
from registry.rollout_entities import Rollout, RolloutSpec

_DAYS_30 = 30 * 86_400.0


class _Verbs(Group):
    """`rollout MODEL VERSION` starts one; a model that is called like a verb is named after `start`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["start", *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self.commands["start"]


@click.group(cls=_Verbs)
def command() -> None:
    """Give a version more and more of the traffic, watched, up to all of it: `titlebout rollout MODEL VERSION`."""


@command.command("start")
@click.argument("endpoint", metavar="MODEL")
@click.argument("version", type=VersionNumber(" A rollout that runs takes status, pause, resume, abort and promote."))
@click.option("--steps", default="1,5,25,50,100", show_default=True, metavar="PERCENT,...", help="Shares, up to 100.")
@click.option(
    "--every", type=Duration(1, _DAYS_30), default="10m", show_default=True, help="How long a step is judged."
)
@click.option(
    "--guard",
    "guards",
    multiple=True,
    metavar="GUARD",
    help="What must not be: failures, failures=2x, failures=1%, p99=1.2x, p99=50ms, slow.  [default: failures]",
)
@click.option("--metric", metavar="NAME", help="What must not get worse, such as accuracy.")
@click.option("--margin", type=float, default=0.0, show_default=True, help="A loss of the metric that is put up with.")
@click.option(
    "--on-undecided",
    type=click.Choice(["go", "wait"]),
    default="go",
    show_default=True,
    help="When the time is over and the metric is neither surely worse nor surely not.",
)
@click.option(
    "--requests", "requests_min", type=int, default=100, show_default=True, help="The challenger's in a step, at least."
)
@click.option("--patience", type=Duration(1, _DAYS_30), help="Longest wait for them.  [default: 10 times --every]")
@click.option(
    "--watch", type=Duration(0, _DAYS_30), default="1h", show_default=True, help="How long the new champion is watched."
)
@click.option(
    "--budget",
    type=Percent(0.01, 50),
    default="0.1%",
    show_default=True,
    metavar="PERCENT",
    help="Of its requests that may fail then.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done now, and change nothing.")
@click.option("--detach", is_flag=True, help="Don't follow it.")
@reason_option
@override_option
@server_option
def start(
    *,
    endpoint: str,
    version: int,
    steps: str,
    guards: tuple[str, ...],
    budget: float,
    dry_run: bool,
    detach: bool,
    reason: str | None,
    override: str | None,
    server: str,
    **how: Any,
) -> None:
    """Roll VERSION of MODEL out, step by step, and follow it; Ctrl-C leaves it running.

    It is the challenger until its last step makes it champion. A step is stopped, and everything put back, as soon as a
    guard is surely broken or the metric surely worse. The status is 0 if it ended well, and 1 if it was put back.
    """
    spec = RolloutSpec(
        steps_bp=_steps(steps),
        every_s=how["every"],
        guards=guards or ("failures",),
        metric=how["metric"],
        margin=how["margin"],
        on_undecided=how["on_undecided"],
        requests_min=how["requests_min"],
        patience_s=how["patience"],
        watch_s=how["watch"],
        budget=budget / 100,
    )
    client, console = Client(server), _console()
    asked = {"version": version, "spec": msgspec.to_builtins(spec), "override": override}
    if dry_run:
        _show_tried(console, client.try_rollout(endpoint, asked))
        return
    started = client.start_rollout({**asked, "endpoint": endpoint, "reason": reason or ""})
    if detach:
        console.print(f"{line_of(msgspec.convert(started, Rollout))}\n{_still_running(endpoint)}")
    else:
        _follow(client, console, endpoint, started["id"])


@command.command()
@click.argument("endpoint", metavar="MODEL")
@click.option("--follow", "is_followed", is_flag=True, help="Until it ends.")
@server_option
def status(*, endpoint: str, is_followed: bool, server: str) -> None:
    """How far the rollout of MODEL is, or how the last one ended."""
    client, console = Client(server), _console()
    rollout = client.rollout(endpoint)
    if is_followed:
        _follow(client, console, endpoint, rollout["id"])
    else:
        console.print(line_of(msgspec.convert(rollout, Rollout)))


def _add_verb(name: str, summary: str) -> None:
    @command.command(name, help=summary)
    @click.argument("endpoint", metavar="MODEL")
    @reason_option
    @server_option
    def verb(*, endpoint: str, reason: str | None, server: str) -> None:
        said = Client(server).tell_rollout(endpoint, name, {"reason": reason or ""})
        _console().print(line_of(msgspec.convert(said, Rollout)))


_add_verb("pause", "Leave the shares as they are; what is bad is put back all the same.")
_add_verb("resume", "Go on after a pause; to the next step, where it waits for a person.")
_add_verb("abort", "End it with everything as it was before.")


@command.command()
@click.argument("endpoint", metavar="MODEL")
@reason_option
@override_option
@server_option
def promote(*, endpoint: str, reason: str | None, override: str | None, server: str) -> None:
    """Make the version champion at once; if it is, stop watching it."""
    said = Client(server).tell_rollout(endpoint, "promote", {"reason": reason or "", "override": override})
    _console().print(line_of(msgspec.convert(said, Rollout)))


def _follow(client: Client, console: Console, endpoint: str, rollout_id: str) -> None:
    try:
        follow(client, console, endpoint, rollout_id)
    except KeyboardInterrupt:
        console.print(_still_running(endpoint))
        raise click.exceptions.Exit(130) from None


def _still_running(endpoint: str) -> str:
    return f"It goes on by itself: `titlebout rollout status {endpoint}`, or pause, abort or promote it."


def _show_tried(console: Console, tried: dict[str, Any]) -> None:
    console.print(f"Version {tried['version']} of {tried['endpoint']} would begin with {tried['share_bp'] / 100:g} %.")
    for finding in tried["findings"]:
        console.print(f"  {finding['name']}: {finding['standing']}; {finding['said']}")
    console.print(f"Now: {tried['ruling']}, {tried['reason']}. Nothing was changed.")


def _steps(steps: str) -> tuple[int, ...]:
    shares = [read_percent(step) for step in steps.split(",")]
    if None in shares:
        raise click.BadParameter(f"{steps[:50]!r}: expected percents, as in 1,5,25,50,100.", param_hint="--steps")
    return tuple(round(share * 100) for share in shares if share is not None)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False)
