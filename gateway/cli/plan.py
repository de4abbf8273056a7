"""`titlebout plan`."""

import click

from gateway.cli.client import Client
from gateway.cli.numbers import Part
from gateway.cli.options import server_option


@click.command()
@click.option("--rate", type=Part(), required=True, metavar="NUMBER", help="The champion's, 0 to 1.")
@click.option("--difference", type=Part(), required=True, metavar="NUMBER", help="What is to be seen, as 0.02.")
@click.option("--share", type=Part(), default=0.5, metavar="NUMBER", help="The challenger's, 0 to 1.  [default: 0.5]")
@click.option(
    "--requests-per-unit", type=float, default=1.0, metavar="NUMBER", help="How often a caller asks.  [default: 1]"
)
@click.option(
    "--likeness",
    type=Part(),
    default=0.0,
    metavar="NUMBER",
    help="How alike a caller's requests are: 0 like strangers', 1 all the same.  [default: 0]",
)
@click.option("--units-a-day", type=float, metavar="NUMBER", help="Callers that come new each day, to say the days.")
@server_option
def command(
    *,
    rate: float,
    difference: float,
    share: float,
    requests_per_unit: float,
    likeness: float,
    units_a_day: float | None,
    server: str,
) -> None:
    """Say how many callers show a difference of rates, in 4 of 5 comparisons: before a split is begun."""
    plan = Client(server).plan(
        rate=rate,
        difference=difference,
        share=share,
        requests_per_unit=requests_per_unit,
        likeness=likeness,
        units_a_day=units_a_day,
    )
    days = "" if plan["days"] is None else f", in {plan['days']:.3g} days"
    click.echo(
        f"{plan['units']:,} callers{days}: {plan['challenger_units']:,} of them the challenger's, with "
        f"{plan['requests']:,} requests in all."
    )
