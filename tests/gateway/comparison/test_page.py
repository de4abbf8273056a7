"""docs/comparison.md says what the code does."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

from gateway.comparison.metrics import METRICS
from gateway.comparison.planner import plan_rates

PAGE = (Path(__file__).parents[3] / "docs/comparison.md").read_text()


def test_the_example_prints_what_the_page_says():
    code, expected = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL).groups()
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "docs/comparison.md", "exec"), {})
    assert printed.getvalue() == expected


def test_every_metric_is_named():
    assert [name for name in METRICS if f"`{name}`" not in PAGE] == []


def test_planned_sizes_are_those_of_the_planner():
    rows = re.findall(r"^\| (0\.\d+) \| (0\.\d+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for rate, difference, *sizes in rows:
        for share, units in zip((0.5, 0.1), sizes, strict=True):
            assert plan_rates(float(rate), float(difference), challenger_share=share).units == int(
                units.replace(",", "")
            )
