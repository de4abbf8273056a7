"""`titlebout feedback`."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click
from rich.console import Console

from gateway.cli.client import Client
from gateway.cli.options import server_option
from gateway.cli.progress import shown_progress

_AT_ONCE = 5_000
_ERRORS_SHOWN = 20
_NOT_ALL_COUNTED = 1
_ID, _LABEL, _REWARD, _ROW = "prediction_id", "label", "reward", "row"
_COUNTS = ("accepted", "waiting", "repeated", "unmatched", "forged", "refused")


class Line(NamedTuple):
    """An item as it is sent, and where it stands in its file."""

    number: int
    text: str


# A label may be a negative number, which isn't an option.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("prediction_id", required=False)
@click.argument("label", required=False)
@click.option("--reward", type=float, help="How good the answer was, in place of a label.")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Many: CSV with the columns prediction_id, row and label, or reward; or else JSON, an item a line.",
)
@click.option("--row", type=click.IntRange(0), help="Which of the answer's rows the label is of, from 0.")
@server_option
def command(
    *,
    prediction_id: str | None,
    label: str | None,
    reward: float | None,
    path: Path | None,
    row: int | None,
    server: str,
) -> None:
    """Say what a prediction should have been: PREDICTION_ID is the answer's header X-Titlebout-Prediction-Id.

    LABEL is a class, a number, or true or false; '"1"' in quotes is a text. What was given before counts once, so a
    file may be sent again. The status is 1 if an item doesn't count; docs/feedback.md says what a label means.
    """
    for text in (prediction_id, label):
        if text is not None and text.startswith("--"):
            raise click.NoSuchOption(text)
    client = Client(server)
    if path is not None:
        if prediction_id or reward is not None or row is not None:
            raise click.UsageError("--file has the ids, rows, labels and rewards in it.")
        try:
            _give_file(client, path)
        except (UnicodeDecodeError, csv.Error) as error:
            raise click.ClickException(f"{path} can't be read as UTF-8 text: {error}") from error
    elif prediction_id is None or (label is None) == (reward is None):
        raise click.UsageError("Say PREDICTION_ID and LABEL, PREDICTION_ID and --reward, or --file FILE.")
    elif reward is not None and not math.isfinite(reward):
        raise click.UsageError("A reward is a number that can be summed.")
    else:
        said = {_LABEL: _value(label)} if label is not None else {_REWARD: reward}
        which = {} if row is None else {_ROW: row}
        answer = client.give_feedback({_ID: prediction_id, **which, **said})
        click.echo(_said_of_one(answer))


def _said_of_one(answer: dict[str, Any]) -> str:
    if answer["repeated"]:
        return "It was given before, and counts once."
    if answer["waiting"]:
        return "Taken; it counts once the prediction log has been looked through for what was predicted."
    if answer["not_compared"]:
        return "Taken; no comparison counts it, since the split didn't choose who answered."
    return "Counted."


def _give_file(client: Client, path: Path) -> None:
    totals, shown = Counter[str](), 0
    with path.open(encoding="utf-8-sig", newline="") as file, shown_progress(Console(stderr=True)) as progress:
        is_csv = path.suffix.lower() == ".csv"
        progress.begin("feedback", sum(1 for line in file if line.strip()) - is_csv)
        file.seek(0)
        lines = _from_csv(file) if is_csv else _from_lines(file)
        while some := list(islice(lines, _AT_ONCE)):
            answer = client.give_feedback_lines("\n".join(line.text for line in some))
            totals.update({name: answer[name] for name in _COUNTS})
            for error in answer["errors"][: _ERRORS_SHOWN - shown]:
                click.echo(f"line {some[error['index']].number}: {error['message']}", err=True)
                shown += 1
            progress.advance(len(some))
    click.echo(", ".join(f"{totals[name]:,} {name}" for name in _COUNTS) + ".")
    if totals["accepted"] + totals["waiting"] + totals["repeated"] < totals.total():
        click.get_current_context().exit(_NOT_ALL_COUNTED)


def _from_lines(file: Iterable[str]) -> Iterator[Line]:
    return (Line(number, line.strip()) for number, line in enumerate(file, 1) if line.strip())


def _from_csv(file: TextIO) -> Iterator[Line]:
    reader = csv.DictReader(file)
    columns = set(reader.fieldnames or ())
    if _ID not in columns or not columns & {_LABEL, _REWARD}:
        raise click.UsageError(f"The first line of the file names its columns: {_ID}, and {_LABEL} or {_REWARD}.")
    for row in reader:
        said = {name: _value(row[name]) for name in (_LABEL, _REWARD) if row.get(name)}
        which = {_ROW: _row(row[_ROW])} if row.get(_ROW) else {}
        yield Line(reader.line_num, json.dumps({_ID: row[_ID] or "", **which, **said}))


def _row(text: str) -> bool | int | float | str:
    """The number of a row, which is written as 1.0 by what has no whole numbers beside missing ones."""
    value = _value(text)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(text: str) -> bool | int | float | str:
    """A label as it was meant: a number, true or false, where it is written as one; else a text."""
    try:
        value = json.loads(text.lower() if text in {"True", "False"} else text, parse_constant=str)
    except ValueError:
        return text
    is_sayable = isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
    return value if is_sayable else text
