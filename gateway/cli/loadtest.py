"""`titlebout loadtest`."""

import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, BinaryIO

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from gateway.cli.client import Client
from gateway.cli.durations import Duration
from gateway.cli.load_target import Inputs, find, in_memory, read_inputs
from gateway.cli.options import server_option
from gateway.cli.progress import live_line
from gateway.cli.tables import day, show
from gateway.load_testing.plan import FOR_S_MAX, USERS_MAX, Moment, Plan, Seen
from gateway.load_testing.report import Asked, Comparison, Machine, Report, lines_of, said_of_comparison
from gateway.load_testing.running import CannotRun, run
from gateway.load_testing.slo import SLOS_MAX, Slo, judge, parse_slo
from gateway.pool.machine import usable_processors
from tracking.errors import InvalidParameter, ServingError

_NOT_PASSED, _COULD_NOT_RUN = 1, 2
_BUSY = 0.9


@click.command()
@click.argument("model")
@click.argument("version", metavar="ALIAS|VERSION")
@click.option("--users", type=click.IntRange(1, USERS_MAX), default=50, show_default=True, help="Who ask at once.")
@click.option(
    "--for",
    "for_s",
    type=Duration(1.0, FOR_S_MAX),
    default="30s",
    show_default=True,
    metavar="TIME",
    help="How long, as in 30s or 5m; where two versions take turns, for both.",
)
@click.option(
    "--slo",
    "slos",
    multiple=True,
    metavar="SLO",
    help="What must hold: p99=50ms (mean, p50, p90, p95, max too), failures=0, failures=0.1%, rps=100.  "
    "[default: failures=0]",
)
@click.option("--input", "given", type=click.File("rb"), metavar="FILE", help="Bodies to send, JSON, one on each line.")
@click.option("--against", metavar="ALIAS|VERSION", help="Which mustn't be quicker.  [default: champion]")
@click.option("--alone", is_flag=True, help="Compare it with none.")
@click.option("--list", "lists", is_flag=True, help="Show the reports that are kept, and run nothing.")
@server_option
def command(
    *,
    model: str,
    version: str,
    users: int,
    for_s: float,
    slos: tuple[str, ...],
    given: BinaryIO | None,
    against: str | None,
    alone: bool,
    lists: bool,
    server: str,
) -> None:
    """Put a version of MODEL under load, and keep the report beside it.

    The version takes turns with the champion, so that both meet the same machine, and is slower if it surely takes more
    processor time for a request. One that isn't in memory is pinned for as long as it takes. The status is 0 if all
    SLOs were kept and it isn't slower, 1 if not, and 2 if the test could not be run.
    """
    if alone and against:
        raise click.UsageError("--alone and --against are contrary.")
    console, client = Console(highlight=False, soft_wrap=True, markup=False), Client(server)
    try:
        asked = _read_slos(slos)
        target = find(client, model.removeprefix("models:/"), version, against, alone=alone or lists)
        if lists:
            _list(client.load_tests(target.model, target.version), target.version)
            return
        with _ended_like_by_hand(), in_memory(client, console, target) as digest:
            inputs = read_inputs(client, target, given)
            plan = Plan(
                url=client.url,
                authorization=client.authorization,
                endpoint=target.endpoint,
                version=target.version,
                against=target.against,
                users=users,
                for_s=for_s,
                bodies=inputs.bodies,
            )
            report = _report(plan, inputs, asked, _run(console, plan))
            _show(console, report)
            kept = client.keep_load_test(target.model, target.version, digest, msgspec.to_builtins(report))
    except ServingError as error:
        Console(stderr=True).print(f"[red]Error:[/] {escape(error.message)}", highlight=False, soft_wrap=True)
        sys.exit(_COULD_NOT_RUN)
    except KeyboardInterrupt:
        click.echo("Ended before it was through; nothing was kept.", err=True)
        sys.exit(_COULD_NOT_RUN)
    said = "passed" if kept["passed"] else "not passed"
    console.print(f"{said}; kept as load test {kept['number']} of version {target.version}, digest {digest[:12]}")
    if not kept["passed"]:
        sys.exit(_NOT_PASSED)


def _list(kept: list[dict[str, Any]], version: int) -> None:
    if not kept:
        click.echo(f"No load test of version {version} is kept.")
        return
    show(
        ("NUMBER", "AT", "PASSED", "BESIDE", "DIGEST", "BY"),
        (
            (
                str(one["number"]),
                day(one["at_ms"]),
                "yes" if one["passed"] else "no",
                "" if one["against"] is None else f"version {one['against']}",
                one["digest"][:12],
                one["author"],
            )
            for one in kept
        ),
    )


@contextmanager
def _ended_like_by_hand() -> Iterator[None]:
    """Have a CI's time limit end it as Ctrl-C does: what was pinned is unpinned."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _read_slos(slos: Sequence[str]) -> list[Slo]:
    if len(slos) > SLOS_MAX:
        raise InvalidParameter(f"At most {SLOS_MAX} SLOs are judged at once.")
    return [parse_slo(text) for text in slos or ("failures=0",)]


def _run(console: Console, plan: Plan) -> Seen:
    """Follow the load on a line that changes, on a terminal; elsewhere without one."""
    beside = f", by turns with version {plan.against}" if plan.against is not None else ""
    console.print(f"Version {plan.version} of {plan.endpoint}{beside}: {plan.users} users for {plan.for_s:g} s")
    # Closed, or what was interrupted would go on asking until we end, past the pin that it needs.
    with live_line(console) as show, closing(run(plan)) as told:
        for said in told:
            if isinstance(said, Seen):
                return said
            show(_line(said))
    raise CannotRun("The load ended before it was seen.")


def _line(moment: Moment) -> str:
    latency = "" if moment.p50_ms is None else f"  p50 {moment.p50_ms:.1f} ms  p99 {moment.p99_ms:.1f} ms"
    counted = f"{moment.requests} requests  {moment.failed} failed"
    return f"{moment.doing}  {counted}{latency}  {moment.left_s:.0f} s left"


def _report(plan: Plan, inputs: Inputs, slos: Sequence[Slo], seen: Seen) -> Report:
    asked = Asked(
        users=plan.users,
        for_s=plan.for_s,
        slos=[str(slo) for slo in slos],
        input=inputs.origin,
        bodies=len(inputs.bodies),
    )
    return Report(
        endpoint=plan.endpoint,
        version=plan.version,
        asked=asked,
        tested=seen.tested,
        slos=[judge(slo, seen.tested) for slo in slos],
        comparison=_comparison(plan, seen),
        series=seen.series,
        server=seen.server,
        client=Machine(name=platform.node(), processors=usable_processors()),
        client_processor_share=seen.client_processor_share,
    )


def _comparison(plan: Plan, seen: Seen) -> Comparison | None:
    if seen.baseline is None or seen.slower is None or seen.processor is None or seen.latency is None:
        return None
    return Comparison(
        baseline=seen.baseline,
        slower=seen.slower,
        processor=seen.processor,
        latency=seen.latency,
        window_s=plan.window_s,
    )


def _show(console: Console, report: Report) -> None:
    console.print("\n".join(lines_of(report.tested)))
    for outcome in report.slos:
        console.print(f"{'kept' if outcome.kept else 'BROKEN':<10} {outcome.slo}: {outcome.said}")
    if report.comparison is not None:
        console.print(f"{report.comparison.slower:<10} {said_of_comparison(report.comparison)}")
    if report.client_processor_share > _BUSY:
        console.print("The load took a whole processor of its own: latencies are its own as well; take fewer users.")
