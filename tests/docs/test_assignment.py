"""docs/assignment.md gives the function by which units meet their arms: what it says is what the server does."""

import re

import pytest

from gateway.scoring.routing import bucket_of
from registry.splits import all_to, move_buckets
from tests.deployment.tools import ROOT

PAGE = (ROOT / "docs/assignment.md").read_text()
UNITS = ["", "ann", "bob", "日本", *(f"user-{number}" for number in range(1_000))]


def code_in(language):
    (code,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE)
    return code


def test_its_python_gives_the_servers_buckets():
    written = {}
    exec(code_in("python"), written)
    assert [written["bucket_of"]("e1", "salt", unit) for unit in UNITS] == [
        bucket_of("e1", "salt", unit) for unit in UNITS
    ]


def test_its_javascript_is_what_agrees_on_a_million_rows():
    assert code_in("javascript") in (ROOT / "tests/gateway/scoring/assignment.js").read_text()


def test_its_units_are_in_the_buckets_that_it_says():
    rows = re.findall(r"(?m)^\| (?:`(.+?)`|\(empty\)) \| ([0-9a-f]{16}) \| (\d+) \|$", PAGE)
    assert len(rows) == 4
    for unit, first, bucket in rows:
        assert bucket_of("e1", "salt", unit) == int(first, 16) % 10_000 == int(bucket)


def test_buckets_move_as_its_table_says():
    rows = re.findall(r"(?m)^\| `(champion=.+?)` \| (.+?) \|", PAGE)
    assert len(rows) == 4
    owners = all_to("champion")
    for shares, said in rows:
        wanted = {arm: int(share) * 100 for arm, share in (one.split("=") for one in shares.split())}
        owners = move_buckets(owners, wanted)
        assert owners == tuple(
            (arm, int(last) - int(first) + 1) for first, last, arm in re.findall(r"(\d+)–(\d+) (\w+)", said)
        )


@pytest.mark.parametrize("unit", ["ann"])
def test_its_line_for_a_shell_is_of_its_table(unit):
    assert f"printf 'e1\\0salt\\0{unit}' | sha256sum" in PAGE
    (number,) = re.findall(r"(?m)^(\d{20})$", PAGE)
    assert int(number) % 10_000 == bucket_of("e1", "salt", unit)
