"""`titlebout predictions`."""

import time
from pathlib import Path, PurePosixPath

import click
from rich.console import Console

from gateway.cli.client import Client
from gateway.cli.durations import Duration
from gateway.cli.options import server_option
from gateway.cli.tables import show

_LONGEST_S = 3_650 * 86_400


@click.command()
@click.argument("endpoint")
@click.option("--since", type=Duration(0, _LONGEST_S), metavar="TIME", help="Only of the days since then: 1h, 7d.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Fetch the files into a folder, which may hold some already.",
)
@server_option
def command(*, endpoint: str, since: float | None, folder: Path | None, server: str) -> None:
    """List the files of ENDPOINT's prediction log, or fetch them.

    They are Parquet, a file holds predictions of one day (UTC), and docs/prediction-log.md has the columns and how
    DuckDB and pandas read them.
    """
    client, console = Client(server), Console(highlight=False, soft_wrap=True, markup=False)
    found = client.predictions(endpoint, since_ms=None if since is None else int((time.time() - since) * 1000))
    if folder is None:
        below = f"{found['folder']}/"
        if found["files"]:
            show(("FILE", "BYTES"), [(one["path"].removeprefix(below), f"{one['bytes']:,}") for one in found["files"]])
        console.print(f"Files: {len(found['files'])}, below {found['folder']} in {found['store']}.")
        return
    fetched = 0
    for one in found["files"]:
        path = PurePosixPath(one["path"])
        target = folder / path.parent.name / path.name
        if not target.exists():
            _fetch(client, endpoint, one["date"], path.stem, target)
            fetched += 1
    console.print(f"Files: {fetched} fetched, {len(found['files']) - fetched} there already.")


def _fetch(client: Client, endpoint: str, day: str, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, so that whoever was broken off may go on.
    unfinished = target.with_suffix(".part")
    unfinished.write_bytes(client.prediction_file(endpoint, day, name))
    unfinished.rename(target)
