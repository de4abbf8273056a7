"""`titlebout db`: what the Kubernetes Job runs before a new version starts, and what it would find."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gateway.cli.groups import Group
from gateway.cli.options import store_options
from gateway.settings import load_settings
from tracking.database import Database


@click.group(cls=Group)
def command() -> None:
    """The database's tables: bring them up to date, or say what they are at."""


@command.command()
@store_options
def upgrade(**options: Any) -> None:
    """Bring the tables up to date, and end. Safe to run twice, and twice at once."""
    with _opened(options) as database:
        before = database.revision()
        database.upgrade()
        after = database.revision()
    said = "was up to date" if before == after else f"went from {before or 'empty'} to {after}"
    click.echo(f"The database {said} (revision {after}).")


@command.command()
@store_options
def current(**options: Any) -> None:
    """Print the revision of the tables; an error if this program needs another."""
    with _opened(options) as database:
        database.check_revision()
        click.echo(f"The database is at revision {database.revision()}, as this program needs it.")


@contextmanager
def _opened(options: dict[str, Any]) -> Iterator[Database]:
    database = Database(load_settings(options).database)
    try:
        yield database
    finally:
        database.dispose()
