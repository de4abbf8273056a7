"""`titlebout log`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from gateway.cli.client import Client
from gateway.cli.options import server_option
from gateway.cli.tables import table, wide_console
from registry.chain import BEGINNING
from registry.entities import Action
from tracking.errors import ErrorCode, ServingError

_PAGE = 1_000
_ANY_WIDTH = 10_000


class HistoryAltered(ServingError):
    """What was written isn't what is there."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, seq: int, what: str) -> None:
        super().__init__(f"Entry {seq} {what}: the history was altered.")


@click.command()
@click.argument("model", required=False)
@click.argument("alias", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most entries to show.")
@click.option("--verify", is_flag=True, help="Follow the chain of all entries instead; status 1 where it is broken.")
@click.option(
    "--noted",
    metavar="SEQ:HASH",
    help="With --verify: what an earlier one printed, and must be a part of this one.",
)
@server_option
def command(*, model: str | None, alias: str | None, limit: int, verify: bool, noted: str | None, server: str) -> None:
    """Show who changed what of MODEL is served, when and why; with ALIAS, what that meant and when.

    Every alias move, split, stop, pin, rename and deletion is in it, whichever way it came. Each entry is chained to
    the one before by its hash; `titlebout log --verify` follows the chain and names the first entry that was altered.
    """
    client = Client(server)
    if verify:
        _verify(client, noted)
        return
    if noted:
        raise click.UsageError("--noted goes with --verify.")
    if model is None:
        raise click.UsageError("Say a MODEL, or --verify.")
    entries = list(_entries(client, model.removeprefix("models:/"), alias, limit))
    rows = [(_second(entry["at_ms"]), entry["author"], words(entry), entry["reason"] or "") for entry in entries]
    if rows:
        _show(rows)
    else:
        click.echo(f"Nothing was done to {model}{'@' + alias if alias else ''} yet, if there is such a one.")


def _show(rows: list[tuple[str, str, str, str]]) -> None:
    """A column for each, or where that is too wide the reasons below what they are of."""
    console, broad = wide_console(), table("WHEN (UTC)", "WHO", "WHAT", "WHY")
    for row in rows:
        broad.add_row(*map(Text, row))
    if console.measure(broad, options=console.options.update(width=_ANY_WIDTH)).maximum <= console.width:
        console.print(broad)
        return
    narrow = table("WHEN (UTC)", "WHO", "WHAT, AND WHY")
    for when, who, what, why in rows:
        said = Text(what)
        if why:
            said.append(f"\n{why}", style="dim")
        narrow.add_row(when, Text(who), said)
    console.print(narrow)


def words(entry: dict[str, Any]) -> str:
    """What an entry of the history says was done."""
    try:
        return _words(entry)
    except (KeyError, TypeError, AttributeError, ValueError):
        # It lacks what such an entry has.
        return f"{entry['action']}, and what of it can't be read: see `titlebout log --verify`"


def _words(entry: dict[str, Any]) -> str:
    alias, version, details = entry["alias"], entry["version"], entry["details"]
    match entry["action"]:
        case Action.ALIAS_SET:
            before = f" (was version {details['before']})" if "before" in details else ""
            return f"{alias} is version {version}{before}{_judged(details.get('verdicts', {}))}"
        case Action.ALIAS_DELETED:
            return f"{alias} deleted (was version {details['before']})"
        case action if "rollout" in details and (said := _of_rollout(action, version, details)):
            return said
        case action if "endpoint" in details and (said := _of_endpoint(action, details)):
            return said
        case Action.GATE_SET | Action.GATE_REMOVED as action:
            return f"gate {details['name']} {action.removeprefix('gate_')}"
        case Action.GATES_OVERRIDDEN:
            return f"{alias} is version {version} past " + "; ".join(
                f"{k}, which {v}" for k, v in details["unmet"].items()
            )
        case Action.LOAD_TESTED:
            return f"version {version} load tested, {'passed' if details['passed'] else 'not passed'}"
        case Action.MODEL_RENAMED:
            return f"renamed to {details['to']}" if "to" in details else f"renamed from {details['from']}"
        case action if version is not None:
            return f"version {version} {str(action).removeprefix('version_')}"
        case action:
            return str(action).replace("_", " ")


def _of_endpoint(action: str, details: dict[str, Any]) -> str:
    """What was done to an endpoint; empty if that is said in other words."""
    match action:
        case Action.SPLIT_CHANGED:
            shares = sorted(details["shares_bp"].items(), key=lambda share: (-share[1], share[0]))
            return "split: " + ", ".join(f"{arm} {share / 100:g} %" for arm, share in shares)
        case Action.SHADOW_CHANGED:
            shadow = details["shadow"]
            return f"shadow: {shadow['arm']}, {shadow['share_bp'] / 100:g} %" if shadow else "no shadow"
        case Action.FALLBACK_CHANGED:
            return f"fallback {'on' if details['fallback'] else 'off'}"
        case Action.ENDPOINT_RENAMED:
            return f"endpoint {details['from']} renamed to {details['endpoint']}"
        case Action.ENDPOINT_STOPPED | Action.ENDPOINT_STARTED:
            return f"endpoint {details['endpoint']} {action.removeprefix('endpoint_')}"
        case _:
            return ""


_ROLLOUT_WAS = {
    Action.ROLLOUT_WAITING: "waits for a person",
    Action.ROLLOUT_PAUSED: "paused",
    Action.ROLLOUT_RESUMED: "resumed",
    Action.ROLLOUT_PROMOTED: "promoted",
    Action.ROLLOUT_STOPPED: "stopped",
    Action.ROLLOUT_ABORTED: "aborted",
    Action.ROLLOUT_ROLLED_BACK: "rolled back",
    Action.ROLLOUT_ENDED: "ended well",
}


def _of_rollout(action: str, version: int | None, details: dict[str, Any]) -> str:
    """What a rollout did, or was told to; empty if that is said in other words."""
    whose = f"rollout of version {version}"
    match action:
        case Action.ROLLOUT_STARTED:
            shares = ", ".join(f"{share / 100:g}" for share in details["asked"]["steps_bp"])
            return f"{whose} started: {shares} %"
        case Action.ROLLOUT_STEPPED:
            step, share = details["step"], f"{details['share_bp'] / 100:g} %"
            return (
                f"{whose}: step {step} of {details['steps']} ({share})" if "steps" in details else f"{whose}: {share}"
            )
        case action if action in _ROLLOUT_WAS:
            return f"{whose} {_ROLLOUT_WAS[Action(action)]}"
        case _:
            return ""


def _judged(verdicts: dict[str, dict[str, Any]]) -> str:
    """By what evidence: what was told from what was there before."""
    found = {metric: said["verdict"] for metric, said in verdicts.items() if said["verdict"] != "not_yet"}
    if not verdicts:
        return ""
    return "; judged " + (", ".join(f"{verdict} by {metric}" for metric, verdict in found.items()) or "no better yet")


def _entries(client: Client, model: str, alias: str | None, limit: int) -> Iterator[dict[str, Any]]:
    token, left = None, limit
    while left:
        page = client.history(model, alias=alias, max_results=min(left, _PAGE), page_token=token)
        yield from page["entries"]
        left -= len(page["entries"])
        token = page["next_page_token"]
        if token is None:
            return


def _verify(client: Client, noted: str | None) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    found = _follow(client, 0, BEGINNING)
    if noted:
        _follow(client, *_read(noted))
    console.print(f"{found['seq']} entries, and each follows from the one before.")
    console.print(f"Note this to compare with later: {found['seq']}:{found['hash']}")


def _follow(client: Client, seq: int, digest: str) -> dict[str, Any]:
    while True:
        found = client.check_history(seq, digest)
        if found["broken_seq"] is not None:
            raise HistoryAltered(found["broken_seq"], found["broken"])
        if found["is_whole"]:
            return found
        seq, digest = found["seq"], found["hash"]


def _read(noted: str) -> tuple[int, str]:
    seq, _, digest = noted.partition(":")
    if not seq.isdecimal() or not digest:
        raise click.BadParameter(f"{noted!r}: expected SEQ:HASH.", param_hint="--noted")
    return int(seq), digest


def _second(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
