"""What the pages tell people to type or to open is there."""

import re

import click
import pytest

from gateway.cli import cli
from gateway.cli.example import curl_lines
from tests.deployment.tools import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}


def anchors(page):
    """The fragments that a page's headings have on a forge."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(text):
    """What stands in code, line by line: blocks, and what is between single backticks."""
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```", text)
    lines = [line for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(name):
    page = PAGES[name]
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_make_targets_are_there(name):
    targets = set(re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text()))
    told = {
        target for line in commands(PAGES[name].read_text()) for target in re.findall(r"(?:^|\s)make ([a-z-]+)", line)
    }
    assert told <= targets


@pytest.mark.parametrize("name", PAGES)
def test_verbs_and_options_of_titlebout_are_there(name):
    context = click.Context(cli)
    unknown = []
    for line in commands(PAGES[name].read_text()):
        match = re.match(r"(?:\$ )?(?:\.venv/bin/)?titlebout ([a-z]+)(.*)", line)
        if match is None:
            continue
        command = cli.get_command(context, match[1])
        if command is None:
            unknown.append(match[0])
            continue
        rest = match[2].split()
        while isinstance(command, click.Group) and rest and (below := command.get_command(context, rest[0])):
            command, rest = below, rest[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        given = re.findall(r"(?:^|\s)(--[\w-]+)", match[2].partition("#")[0])
        unknown += [f"{match[1]} {option}" for option in given if option not in known]
    assert unknown == []


def test_the_readmes_curl_lines_are_those_that_serve_prints():
    printed = curl_lines("http://127.0.0.1:8080").strip().splitlines()
    assert len(printed) == 4
    assert "\n".join(printed) in README


def test_the_readme_names_the_two_commands_first():
    (first, *_) = re.findall(r"(?ms)^```\n(make .*?)^```", README)
    assert re.findall(r"(?m)^make (\S+)", first) == ["serve", "test"]


def test_files_that_pages_name_are_there():
    missing = []
    for name, page in PAGES.items():
        named = re.findall(
            r"`((?:gateway|registry|loaders|tracking|tests|docs|k8s|loadtests)/[\w./-]*\w)`", page.read_text()
        )
        missing += [f"{name}: {path}" for path in named if not (ROOT / path).exists() and "NAME" not in path]
    assert missing == []
