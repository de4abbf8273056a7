"""`titlebout import`. The file's name has a line at its end because the verb's own is a word of Python."""

import sys
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from gateway.cli.options import store_options
from gateway.cli.progress import shown_progress
from gateway.cli.stores import opened_stores
from gateway.operations.importing.books import Target
from gateway.operations.importing.copying import Report, import_store
from gateway.operations.importing.mlflow_server import MlflowServer
from gateway.settings import load_settings
from registry.sources import SourcePolicy

_ROWS = {
    "experiments": "experiments",
    "runs": "runs",
    "params": "params",
    "tags": "tags of runs",
    "points": "points of metrics",
    "logged_models": "logged models",
    "registered_models": "registered models and prompts",
    "versions": "versions",
    "aliases": "aliases",
    "files": "artifacts",
    "size": "bytes of artifacts",
}


@click.command()
@click.argument("uri", metavar="URI")
@store_options
def command(*, uri: str, **options: Any) -> None:
    """Copy everything that the MLflow server at URI has: with its ids, numbers, times and artifacts.

    Run it again, and it goes on where it stopped, or copies what is new. Status 1 if something couldn't be copied.
    Credentials come from MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN.
    """
    settings = load_settings(options)
    prefixes = (prefix.strip() for prefix in settings.source_prefixes.split(","))
    console = Console(highlight=False)
    with (
        MlflowServer(uri) as server,
        opened_stores(settings) as (database, store),
        shown_progress(Console(stderr=True)) as progress,
    ):
        release = server.version()
        if database.is_sqlite:
            database.upgrade()
        database.check_revision()
        policy = SourcePolicy(locate=store.locate, prefixes=tuple(prefix for prefix in prefixes if prefix))
        report = import_store(server, Target(database, store, policy), progress)
    console.print(f"From MLflow {release} at {server.url}:")
    console.print(_table(report))
    for problem in report.problems:
        click.echo(f"Not copied: {problem}", err=True)
    sys.exit(1 if report.problems else 0)


def _table(report: Report) -> Table:
    table = Table("", "THERE", "HERE", "COPIED NOW", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for field, name in _ROWS.items():
        counts = [getattr(side, field) for side in (report.there, report.here, report.copied)]
        said = [decimal(count) if field == "size" else f"{count:,}" for count in counts]
        colour = "" if counts[0] == counts[1] else "[red]"
        table.add_row(f"{colour}{name}", *said)
    return table
