"""`titlebout assign`."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TextIO

import click
import msgspec

from gateway.cli.client import Client, Refused
from gateway.cli.options import server_option
from gateway.scoring.replay import Assignment, LoggedAnswer
from registry.entities import Route

_FAULTS_SHOWN = 20
_DISAGREE = 1


@click.command()
@click.argument("endpoint", required=False)
@click.argument("unit", required=False)
@click.option(
    "--replay",
    type=click.File(encoding="utf-8", errors="replace"),
    metavar="FILE",
    help="Work a log out again; - reads the standard input.",
)
@click.option("--epoch", type=click.IntRange(min=1), help="As it was in this epoch, not as it is now.")
@server_option
def command(*, endpoint: str | None, unit: str | None, replay: TextIO | None, epoch: int | None, server: str) -> None:
    """Say which arm UNIT meets at ENDPOINT, and why; or whether a log of answers is as it must be.

    A log has a JSON object on each line, with endpoint, epoch, arm and either bucket, as the server's own has, or unit,
    as a caller's may. The status is 1 if a line doesn't agree; docs/assignment.md says how it is worked out.
    """
    client = Client(server)
    if replay is not None:
        if endpoint or epoch:
            raise click.UsageError("--replay takes endpoints and epochs from the log.")
        _replay(client, replay)
    elif endpoint is None or unit is None:
        raise click.UsageError("Say ENDPOINT and UNIT, or --replay FILE.")
    else:
        _explain(client.assignment(endpoint, epoch), unit)


def _explain(answer: dict[str, Any], unit: str) -> None:
    route = msgspec.convert(answer, Route)
    why = Assignment(route).explain(unit)
    shares = Counter[str]()
    for arm, count in route.owners:
        shares[arm] += count
    click.echo(f"arm     {why.arm}, version {why.version}")
    click.echo(f"bucket  {why.bucket}, by the hash of id {route.id}, salt {route.salt!r} and the unit")
    click.echo(f"owners  {', '.join(_said_owners(route.owners))}")
    click.echo(f"shares  {', '.join(f'{arm} {count / 100:g} %' for arm, count in sorted(shares.items()))}")
    click.echo(f"epoch   {answer['epoch']}, period {route.period} of the split")


def _said_owners(owners: Iterable[tuple[str, int]]) -> Iterable[str]:
    first = 0
    for arm, count in owners:
        yield f"{first}–{first + count - 1} {arm}"
        first += count


def _replay(client: Client, log: TextIO) -> None:
    """Work out each line, asking once for each endpoint and epoch."""

    @cache
    def find_assignment(endpoint: str, epoch: int) -> Assignment | None:
        try:
            return Assignment(msgspec.convert(client.assignment(endpoint, epoch), Route))
        except Refused:
            return None

    counts, faults = _check(log, find_assignment)
    for fault in faults:
        click.echo(fault)
    if counts["wrong"] > len(faults):
        click.echo(f"… and {counts['wrong'] - len(faults)} more")
    click.echo(
        f"{counts['right']} agree, {counts['wrong']} don't; {counts['named']} passed over because the split didn't "
        f"choose the arm, or it isn't said by what; {counts['forgotten']} of endpoints or epochs that aren't known."
    )
    if counts["wrong"]:
        raise SystemExit(_DISAGREE)


def _check(
    log: Iterable[str], find_assignment: Callable[[str, int], Assignment | None]
) -> tuple[Counter[str], list[str]]:
    """How many lines are right, wrong, named, forgotten; and what is wrong with the first."""
    counts, faults = Counter[str](), list[str]()
    for number, text in enumerate(log, start=1):
        line = _read(text)
        if line is None:
            continue
        if not line.was_assigned or line.endpoint is None or line.epoch is None:
            counts["named"] += 1
        elif (assignment := find_assignment(line.endpoint, line.epoch)) is None:
            counts["forgotten"] += 1
        elif (fault := assignment.find_fault(line)) is None:
            counts["right"] += 1
        else:
            counts["wrong"] += 1
            if len(faults) < _FAULTS_SHOWN:
                faults.append(f"line {number}: {fault}")
    return counts, faults


def _read(text: str) -> LoggedAnswer | None:
    """The answer that a line tells of; None if it tells of something else."""
    try:
        line = msgspec.json.decode(text, type=LoggedAnswer)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return line if line.endpoint is not None else None
