"""What a report comes to, and its picture."""

from xml.etree import ElementTree as ET

import msgspec
import pytest

from gateway.load_testing.figures import Point
from gateway.load_testing.picture import draw
from gateway.load_testing.report import Report, said_of_comparison
from gateway.load_testing.slo import judge, parse_slo
from gateway.load_testing.slowdown import Slower
from tests.gateway.load_testing.reports import FIGURES, REPORT, compared

BROKEN = msgspec.structs.replace(REPORT, slos=[*REPORT.slos, judge(parse_slo("p99=1ms"), FIGURES)])
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("report", "passed"),
    [
        pytest.param(REPORT, True, id="all kept"),
        pytest.param(BROKEN, False, id="one broken"),
        pytest.param(msgspec.structs.replace(REPORT, slos=[]), False, id="nothing asked"),
        pytest.param(compared(Slower.NO), True, id="not slower"),
        pytest.param(compared(Slower.YES), False, id="slower"),
        pytest.param(compared(Slower.UNSURE), False, id="unsure is no evidence"),
    ],
)
def test_a_report_passes_where_everything_in_it_does(report, passed):
    assert report.passed is passed
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_a_comparison_is_said_in_figures():
    report = compared(Slower.YES)
    assert report.against == 7
    said = said_of_comparison(report.comparison)
    assert "slower than version 7" in said
    assert "×1.3 (×1.2 to ×1.4)" in said


def test_the_picture_has_a_line_for_each_quantile_and_a_mark_for_each_failure():
    failing = [Point(0.0, 10, 0, 1.0, 2.0), Point(1.0, 10, 3, 1.5, 40.0), Point(2.0, 10, 0, 1.0, 2.0)]
    picture = ET.fromstring(draw(msgspec.structs.replace(REPORT, series=failing)))
    lines = picture.findall(f"{SVG}polyline")
    assert [len(line.get("points").split()) for line in lines] == [3, 3]
    assert [mark.find(f"{SVG}title").text for mark in picture.findall(f"{SVG}circle")] == ["3 failed"]


@pytest.mark.parametrize(
    "series",
    [
        pytest.param([], id="nothing"),
        pytest.param([Point(0.0, 1, 1, 1e308, 1e308)], id="one, and huge"),
        pytest.param([Point(-5.0, -1, -1, -1.0, -1.0), Point(0.0, 0, 0, 0.0, 0.0)], id="made up"),
    ],
)
def test_whatever_a_report_says_its_picture_is_one(series):
    report = msgspec.structs.replace(REPORT, endpoint="<script>&", series=series)
    assert ET.fromstring(draw(report)).find(f"{SVG}title").text.endswith("of <script>& over the load test")
