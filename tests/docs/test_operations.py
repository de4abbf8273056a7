"""docs/operations.md says what `gateway.settings` and the log lines say, no more and no less."""

import re
from enum import StrEnum

import click
import msgspec
import pytest

from gateway.cli import cli
from gateway.observability.prediction_log import PREDICTED, REFUSED
from gateway.settings import MLFLOW_VARIABLES, Settings, environment_name
from tests.deployment.tools import ROOT

DOCS = (ROOT / "docs/operations.md").read_text()
FIELDS = {environment_name(field.name): field for field in msgspec.structs.fields(Settings)}
PACKAGES = ("gateway", "registry", "loaders", "tracking")


def rows_under(heading):
    """The cells of each row of the tables between *heading* and the next heading of its level."""
    level = heading.split(" ", 1)[0]
    section = re.split(rf"(?m)^{re.escape(heading)}$", DOCS)[1]
    section = re.split(rf"(?m)^#{{1,{len(level)}}} ", section)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def settings_rows():
    rows = [row for row in rows_under("## Settings") if len(row) == 5 and row[0].startswith("`")]
    return {row[0].strip("`"): row[1:] for row in rows}


def as_documented(default):
    match default:
        case "":
            return "(empty)"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
        case StrEnum():
            return f"`{default.value}`"
        case _:
            return f"`{default}`"


def options_of(verb):
    command = cli.get_command(click.Context(cli), verb)
    return {parameter.name: parameter.opts for parameter in command.params if isinstance(parameter, click.Option)}


def test_each_setting_has_one_row_and_each_row_a_setting():
    documented = [row[0].strip("`") for row in rows_under("## Settings") if len(row) == 5 and row[0].startswith("`")]
    assert sorted(documented) == sorted(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_row_gives_the_default_and_the_unit_of_its_setting(name):
    field = FIELDS[name]
    _, default, unit, meaning = settings_rows()[name]
    assert default == as_documented(field.default)
    if field.name.endswith("_s"):
        assert unit == "s"
    if field.name.endswith("_bytes_max"):
        assert unit == "bytes"
    assert meaning.endswith(".")


def test_a_row_names_the_option_that_sets_it_too():
    options = options_of("serve")
    documented = {name: row[0].strip("`") for name, row in settings_rows().items() if row[0]}
    assert documented == {name: options[field.name][0] for name, field in FIELDS.items() if field.name in options}


def test_mlflows_variables_and_options_are_those_that_are_read():
    options = options_of("serve")
    rows = [row for row in rows_under("### MLflow's own spellings") if row[0].startswith("`")]
    variables = {row[0].strip("`"): tuple(re.findall(r"`(\w+)`", row[1])) for row in rows}
    assert variables == {environment_name(field): names for field, names in MLFLOW_VARIABLES.items()}
    for row in rows:
        spelled = re.findall(r"`(--[\w-]+)`", row[2])
        assert spelled == [option for option in options[FIELDS[row[0].strip("`")].name][1:] if option.startswith("--")]


def test_each_event_that_is_logged_has_a_row_and_each_row_an_event():
    pattern = re.compile(r"_log\.(?:debug|info|warning|error|exception|log)\(\s*(?:level,\s*)?([^)\n]*)")
    logged = {
        event
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for arguments in pattern.findall(path.read_text())
        for event in re.findall(r'"([a-z_]+)"', arguments.split("extra=")[0])
    }
    logged |= {PREDICTED, REFUSED}
    documented = {event for row in rows_under("## Logs") for event in re.findall(r"`(\w+)`", row[0])}
    assert documented == logged


def test_each_metric_has_a_row():
    made = {
        name
        for path in (ROOT / "gateway/observability").glob("*_metrics.py")
        for name in re.findall(r'"(gateway_\w+)"', path.read_text())
    }
    documented = {name.strip("`").removesuffix("_total") for name, *_ in rows_under("## Metrics") if "gateway_" in name}
    assert documented == made
