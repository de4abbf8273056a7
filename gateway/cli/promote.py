"""`titlebout promote`."""

import click
from rich.console import Console

from gateway.cli.client import Client, Refused
from gateway.cli.following import Flip, failures_so_far, follow
from gateway.cli.missing import instead_of
from gateway.cli.options import override_option, reason_option, server_option
from registry.entities import CHALLENGER, CHAMPION
from tracking.errors import InvalidParameter


class NoArm(InvalidParameter):
    def __init__(self, model: str, alias: str, arms: list[str]) -> None:
        said = f"the arms of {model!r} are {', '.join(arms)}" if arms else f"{model!r} has no endpoint before its first"
        super().__init__(
            f"Nothing answers for {alias!r}, so there would be nothing to wait for: {said}"
            f"{'' if arms else f' {CHAMPION}'}. Nothing was changed. Without --wait the alias is set all the same."
        )


@click.command()
@click.argument("model")
@click.argument("alias")
@click.argument("version", metavar="VERSION")
@click.option("--wait", is_flag=True, help="Show how far each replica is, until all answer from VERSION.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait.",
)
@reason_option
@override_option
@server_option
def command(
    *,
    model: str,
    alias: str,
    version: str,
    wait: bool,
    timeout_s: float,
    reason: str | None,
    override: str | None,
    server: str,
) -> None:
    """Let ALIAS of MODEL mean VERSION: a number, or @ALIAS for what that alias means.

    An arm's alias (champion, challenger) moves traffic: the version is loaded beside the one that serves, and takes
    over on all replicas at once when it is ready on each. Any other alias is just a name. With --wait the status is 0
    when every live replica answers from VERSION, and 1 with the reason when it can't be loaded.
    """
    model = model.removeprefix("models:/")
    client, console = Client(server), Console(highlight=False, soft_wrap=True, markup=False)
    number = _number(client, model, version)
    endpoint = client.find_endpoint_of(model)
    arms = sorted(endpoint["shares_bp"]) if endpoint else []
    is_arm = alias == CHAMPION or (endpoint is not None and alias in {CHALLENGER, *arms})
    if wait and not is_arm:
        raise NoArm(model, alias, arms)
    name = endpoint["name"] if endpoint else model
    flip = Flip(endpoint=name, model=model, arm=alias, version=number)
    known = failures_so_far(client, flip) if wait and endpoint else frozenset()
    client.set_alias(model, alias, number, reason=reason, override=override)
    console.print(f"{model}@{alias} is version {number}.")
    if not is_arm:
        console.print(f"It is no arm ({', '.join(arms) or 'there is no endpoint yet'}), so no traffic moves.")
    elif wait:
        epoch = follow(client, console, flip, timeout_s=timeout_s, known_failures=known)
        console.print(f"Version {number} answers as {alias}, epoch {epoch}.")


def _number(client: Client, model: str, version: str) -> int:
    """The version that was said, if the registry has it."""
    if not version.startswith("@") and not version.isdecimal():
        expected = "expected a version's number, such as 2, or @ALIAS for what an alias means."
        raise click.BadParameter(f"{version!r}: {expected}", param_hint="VERSION")
    try:
        uri = f"models:/{model}{version}" if version.startswith("@") else f"models:/{model}/{version}"
        return int(client.resolve(uri)["version"])
    except Refused as refused:
        raise instead_of(client, model, version, refused) from refused
