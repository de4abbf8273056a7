"""`titlebout gc`."""

import re
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal

from gateway.cli.options import store_options
from gateway.cli.progress import shown_progress
from gateway.cli.stores import opened_stores
from gateway.operations.garbage import Garbage, find_garbage, remove_garbage, size_of
from gateway.settings import load_settings

_UNITS_H = {"h": 1, "d": 24, "w": 7 * 24}
_NAMED_MAX = 20


class _Age(click.ParamType[int]):
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds."""
        found = re.fullmatch(r"(\d{1,6})([hdw])", str(value))
        if found is None:
            self.fail(f"{value!r}: expected a number of hours, days or weeks, such as 36h, 30d or 4w.", param, ctx)
        return int(found[1]) * _UNITS_H[found[2]] * 3_600_000


@click.command()
@store_options
@click.option("--older-than", "age_ms", type=_Age(), default="30d", show_default=True, help="Hours, days or weeks.")
@click.option("--unrecorded", is_flag=True, help="Also artifacts that didn't come through Titlebout.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
def command(*, age_ms: int, unrecorded: bool, dry_run: bool, **options: Any) -> None:
    """Remove runs, logged models and experiments that were deleted long ago, and artifacts that belong to nobody.

    What a version was made from stays, and so does everything younger than a day. Say --dry-run first.
    """
    with (
        opened_stores(load_settings(options)) as (database, store),
        shown_progress(Console(stderr=True)) as progress,
    ):
        database.check_revision()
        garbage = find_garbage(database, store, age_ms=age_ms, progress=progress, strangers_too=unrecorded)
        if not dry_run:
            garbage = remove_garbage(database, store, garbage, age_ms=age_ms, progress=progress)
    _say(garbage, "Would remove" if dry_run else "Removed")


def _say(garbage: Garbage, done: str) -> None:
    doomed = garbage.doomed
    click.echo(
        f"{done} {len(doomed.experiments)} experiments, {len(doomed.run_ids)} runs, {len(doomed.model_ids)} logged "
        f"models and {len(garbage.files)} artifacts ({decimal(size_of(garbage.files))})."
    )
    _list("experiment", [f"{one.experiment_id} ({one.name})" for one in doomed.experiments])
    _list("run", doomed.run_ids)
    _list("logged model", doomed.model_ids)
    _list("artifact", [f"{file.path} ({decimal(file.size)})" for file in garbage.files])
    if garbage.strangers:
        size = decimal(size_of(garbage.strangers))
        click.echo(
            f"Left {len(garbage.strangers)} artifacts ({size}) that belong to nobody here and didn't come through "
            "Titlebout; --unrecorded takes them too."
        )
        _list("left", [str(file.path) for file in garbage.strangers])
    if doomed.kept:
        click.echo(f"Kept {len(doomed.kept)} that are old enough, because versions were made from their artifacts:")
        _list("kept", doomed.kept)


def _list(what: str, names: Any) -> None:
    for name in names[:_NAMED_MAX]:
        click.echo(f"  {what} {name}")
    if len(names) > _NAMED_MAX:
        click.echo(f"  … and {len(names) - _NAMED_MAX} more")
