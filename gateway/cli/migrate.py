"""`titlebout migrate`: what the Kubernetes Job runs before a new version starts."""

from typing import Any

import click
from rich.console import Console

from gateway.cli.options import store_options
from gateway.settings import load_settings
from tracking.database import Database


@click.command()
@store_options
def command(**options: Any) -> None:
    """Bring the database's tables up to date, and end. Safe to run twice, and twice at once."""
    database = Database(load_settings(options).database)
    before = database.revision()
    database.upgrade()
    after = database.revision()
    said = "was up to date" if before == after else f"went from {before or 'empty'} to {after}"
    Console().print(f"The database {said} (revision {after}).", highlight=False)
    database.dispose()
