"""What is deployed calls verbs and options that the program has."""

import json
import re

import click
import pytest
import yaml

from gateway.cli import cli
from tests.deployment.tools import ROOT


def parse(arguments):
    """Read *arguments* as the program would, without running them."""
    command, rest = cli, arguments
    while isinstance(command, click.Group):
        verb, *rest = rest
        command = command.get_command(click.Context(command), verb)
        assert command is not None, f"there is no verb {verb}"
    return command.make_context(verb, rest).params


@pytest.mark.parametrize("number", [0, 1], ids=["server", "migration"])
def test_the_program_understands_what_the_pods_ask_of_it(overlay, number):
    (container,) = overlay.pods[number]["spec"]["containers"]
    parse(container["args"])


def test_the_program_understands_the_images_command():
    command = re.search(r"(?m)^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text())[1]
    given = parse(json.loads(command))
    assert given["host"] == "0.0.0.0"


def test_the_program_understands_the_compose_files_command():
    given = parse(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["titlebout"]["command"])
    assert (given["host"], given["migrate"]) == ("0.0.0.0", True)
