"""`titlebout backup`."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal

from gateway.cli.options import store_options
from gateway.cli.progress import shown_progress
from gateway.cli.stores import opened_stores
from gateway.operations.backup import take_backup
from gateway.settings import load_settings


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@store_options
@click.option("--no-artifacts", is_flag=True, help="List the artifacts with their digests; copy none.")
def command(*, folder: Path, no_artifacts: bool, **options: Any) -> None:
    """Back up the database and the artifacts into DIR, beside running servers, and read it all again.

    Status 1 if artifacts were found damaged; the backup is whole all the same.
    """
    with (
        opened_stores(load_settings(options)) as (database, store),
        shown_progress(Console(stderr=True)) as progress,
    ):
        backup = take_backup(database, store, folder, copy_artifacts=not no_artifacts, progress=progress)
    artifacts = backup.artifacts
    done = "copied" if artifacts.copied else "listed"
    click.echo(
        f"{folder}: {backup.rows} rows of {len(backup.tables)} tables (revision {backup.revision}), "
        f"{artifacts.files} artifacts ({decimal(artifacts.size)}) {done}, all read again."
    )
    for path in backup.damaged:
        click.echo(f"Damaged before: {path} isn't what was uploaded.", err=True)
    sys.exit(1 if backup.damaged else 0)
