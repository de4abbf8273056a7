"""The assignment worked out again: from a log, and by another language."""

import json
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from gateway.scoring.replay import Assignment, Explanation, LoggedAnswer
from gateway.scoring.routing import bucket_of
from registry.entities import Route

ROUTE = Route(
    id="e1",
    name="iris",
    model="iris",
    salt="salt",
    fallback=False,
    period=2,
    arms={"champion": 3, "challenger": 4},
    owners=(("challenger", 4_500), ("champion", 5_500)),
)
NODE = shutil.which("node")


def test_a_unit_is_explained_by_its_bucket():
    assignment = Assignment(ROUTE)
    assert assignment.explain("ann") == Explanation(4449, "challenger", 4)
    assert assignment.explain("bob") == Explanation(5888, "champion", 3)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param({"arm": "challenger", "bucket": 4449}, None, id="as the server logs it"),
        pytest.param({"arm": "challenger", "unit": "ann"}, None, id="as a caller may"),
        pytest.param({"arm": "challenger", "unit": "ann", "bucket": 4449, "version": 4}, None, id="all of it"),
        pytest.param({"arm": "champion", "bucket": 4449}, "challenger's, not champion's", id="another arm"),
        pytest.param({"arm": "challenger", "bucket": 4449, "version": 3}, "version 4, not 3", id="another version"),
        pytest.param({"arm": "champion", "unit": "bob", "bucket": 5887}, "5888, not 5887", id="another bucket"),
        pytest.param({"arm": "champion", "bucket": 10_000}, "no bucket 10000", id="none"),
        pytest.param(
            {"arm": "champion", "version": 3, "bucket": 4449, "fallback_from": "challenger"}, None, id="a fallback"
        ),
        pytest.param(
            {"arm": "champion", "bucket": 5888, "fallback_from": "challenger"},
            "champion's, not challenger's",
            id="a fallback from nowhere",
        ),
        pytest.param({"arm": "third", "bucket": 1}, "not third's", id="an arm that isn't there"),
    ],
)
def test_a_line_of_a_log_agrees_or_is_told_why_not(line, fault):
    found = Assignment(ROUTE).find_fault(LoggedAnswer(endpoint="iris", epoch=7, **line))
    assert found is None if fault is None else fault in found


@pytest.mark.parametrize(
    ("line", "assigned"),
    [
        ({"endpoint": "iris", "epoch": 7, "arm": "champion", "bucket": 0}, True),
        ({"endpoint": "iris", "epoch": 7, "arm": "champion", "unit": ""}, True),
        ({"endpoint": "iris", "epoch": 7, "arm": "champion"}, False),
        ({"endpoint": "iris", "epoch": 7, "arm": "", "bucket": 5}, False),
        ({"endpoint": "iris", "arm": "champion", "bucket": 5}, False),
        ({}, False),
    ],
)
def test_only_what_the_split_gave_to_an_arm_can_be_worked_out(line, assigned):
    assert LoggedAnswer(**line).was_assigned == assigned


def rows(count: int) -> list[tuple[str, str, str]]:
    random = Random(11)
    # Letters of every width in UTF-8, controls and line separators; a lone surrogate is no text in JavaScript.
    letters = 'az09-_ \t\x00\x1f\x7f"\\éß\u2028日本😀'
    units = ("".join(random.choices(letters, k=random.randrange(12))) for _ in range(count))
    return [(f"e{number % 7}", "salt" if number % 3 else "", unit) for number, unit in enumerate(units)]


def buckets_by_node(given: list[tuple[str, str, str]]) -> list[int]:
    program = Path(__file__).with_name("assignment.js")
    text = "".join(json.dumps(row) + "\n" for row in given)
    done = subprocess.run([NODE, program], input=text, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="there is no Node")
def test_javascript_agrees_on_a_million_rows():
    given = rows(1_000_000)
    assert buckets_by_node(given) == [bucket_of(*row) for row in given]
