"""`titlebout split`."""

from decimal import Decimal, InvalidOperation

import click

from gateway.cli.client import Client
from gateway.cli.options import override_option, reason_option, server_option


@click.command()
@click.argument("endpoint", metavar="MODEL")
@click.argument("shares", metavar="ARM=PERCENT...", nargs=-1, required=True)
@click.option("--reshuffle", is_flag=True, help="Assign every unit anew.")
@reason_option
@override_option
@server_option
def command(
    *,
    endpoint: str,
    shares: tuple[str, ...],
    reshuffle: bool,
    reason: str | None,
    override: str | None,
    server: str,
) -> None:
    """Share MODEL's traffic: `titlebout split iris-classifier champion=90 challenger=10`.

    Percentages add up to 100 and may have two decimals; an arm that isn't named gets nothing. As few units as possible
    move, and only from arms that shrink to arms that grow.
    """
    client = Client(server)
    answer = client.change_split(endpoint, _basis_points(shares), reshuffle=reshuffle, reason=reason, override=override)
    said = ", ".join(f"{arm} {share / 100:g} %" for arm, share in answer["shares_bp"].items())
    click.echo(f"{endpoint}: {said} (period {answer['period']})")


def _basis_points(shares: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for share in shares:
        arm, equals, percent = share.rpartition("=")
        try:
            points = Decimal(percent.rstrip("%")) * 100
        except InvalidOperation:
            points = Decimal(-1)
        if not equals or not arm or not points.is_finite() or points != int(points) or not 0 <= points <= 10_000:
            raise click.BadParameter(f"{share!r}: expected ARM=PERCENT, such as champion=90 or challenger=0.25.")
        if arm in found:
            raise click.BadParameter(f"{arm!r} is there twice.")
        found[arm] = int(points)
    total = sum(found.values())
    if total != 10_000:
        hint = " Shares are percentages: 90, not 0.9." if total == 100 else ""
        raise click.BadParameter(f"the shares add up to {total / 100:g} %; expected 100 %.{hint}")
    return found
