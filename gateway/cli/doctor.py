"""`titlebout doctor`: is everything there that `titlebout serve` needs?"""

import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console
from sqlalchemy import text

from gateway.artifact_access import open_artifact_store
from gateway.cli.options import store_options
from gateway.settings import Settings, load_settings
from tracking.artifacts import CheckStep, check_store
from tracking.database import Database
from tracking.errors import ServingError


@click.command()
@store_options
def command(**options: Any) -> None:
    """Check the database and the artifact store: reach, list, write, delete. A line each; status 1 if one fails."""
    settings = load_settings(options)
    console = Console(highlight=False)
    healthy = True
    for part, steps in (
        ("database", _check_database(settings)),
        ("artifacts", _check_artifacts(settings)),
    ):
        for step in steps:
            healthy = healthy and step.ok
            mark = "[green]ok  [/]" if step.ok else "[red]FAIL[/]"
            console.print(f"{mark}  {part:<9}  {step.name:<8}  {step.detail}", soft_wrap=True)
    sys.exit(0 if healthy else 1)


def _check_database(settings: Settings) -> Iterator[CheckStep]:
    database = Database(settings.database)
    reached = _step("reach", lambda: _reach(database))
    yield reached
    if reached.ok:
        yield _step("tables", lambda: _tables(database))
        yield _step("write", lambda: _write(database))
    database.dispose()


def _check_artifacts(settings: Settings) -> Iterator[CheckStep]:
    try:
        store = open_artifact_store(settings)
    except ServingError as error:
        yield CheckStep("open", ok=False, detail=error.message)
    else:
        yield from check_store(store)


def _reach(database: Database) -> str:
    with database.reading() as session:
        session.execute(text("SELECT 1"))
    return database.url.render_as_string(hide_password=True)


def _tables(database: Database) -> str:
    database.check_revision()
    return f"at revision {database.revision()}"


def _write(database: Database) -> str:
    """Make a table, write a row and drop it again: what a role needs for migrations and for everything after."""
    table = f"titlebout_doctor_{uuid.uuid4().hex[:12]}"
    with database.writing() as session:
        session.execute(text(f"CREATE TABLE {table} (n INTEGER)"))
        session.execute(text(f"INSERT INTO {table} VALUES (1)"))  # noqa: S608  (a name made above, of hexadecimal digits)
        session.execute(text(f"DROP TABLE {table}"))
    return "made a table, wrote a row, dropped it"


def _step(name: str, check: Callable[[], str]) -> CheckStep:
    try:
        return CheckStep(name, ok=True, detail=check())
    except ServingError as error:
        return CheckStep(name, ok=False, detail=error.reason)
