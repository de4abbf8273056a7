"""`titlebout restore`."""

import shutil
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal

from gateway.cli.options import store_options
from gateway.cli.progress import shown_progress
from gateway.cli.stores import opened_stores
from gateway.operations.backup_format import BackupFolder
from gateway.operations.restore import restore_backup
from gateway.settings import load_settings


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@store_options
@click.option("--force", is_flag=True, help="Replace what the database and the artifact root hold.")
def command(*, folder: Path, force: bool, **options: Any) -> None:
    """Put the backup in DIR into a database and an artifact root of either kind, and compare what came of it.

    Servers must be stopped. A backup of an older release is brought up to date.
    """
    settings = load_settings(options)
    with opened_stores(settings) as (database, store), shown_progress(Console(stderr=True)) as progress:
        backup = restore_backup(BackupFolder(folder), database, store, force=force, progress=progress)
        where = database.place
    # It may hold a later epoch than the restored database, and would be served from while that is out of reach.
    shutil.rmtree(settings.data_dir / "state", ignore_errors=True)
    artifacts = backup.artifacts
    done = f"copied to {store.uri}" if artifacts.copied else "checked by their sizes"
    click.echo(
        f"{where}: {backup.rows} rows restored; {artifacts.files} artifacts ({decimal(artifacts.size)}) {done}. "
        "All was compared with the backup."
    )
