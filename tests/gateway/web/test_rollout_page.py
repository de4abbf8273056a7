"""What the page of a rollout says, and what it offers to do."""

import msgspec
import pytest

from gateway.web.pages import Pages
from gateway.web.rollout_page import duration, in_words, render_rollout
from registry.rollout_entities import RolloutState
from tests.gateway.test_rollout_following import LOOKED, ROLLOUT


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(600.0, "10m"), (7_200.0, "2h"), (172_800.0, "2d"), (90.0, "90s"), (0.5, "0.5s"), (0.0, "0s")],
)
def test_a_duration_is_said_as_it_is_asked(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize("state", RolloutState)
def test_what_is_offered_is_what_can_be_done(state):
    over = state in {"succeeded", "stopped", "aborted", "rolled_back"}
    rollout = msgspec.structs.replace(ROLLOUT, state=state, ended_ms=60_000 if over else None)
    page = render_rollout(Pages(), "a b", rollout)
    assert in_words(state) in page
    assert ("titlebout rollout abort" in page) is not over
    assert ("titlebout rollout resume" in page) is (state in {"paused", "waiting"})
    assert ("titlebout rollout pause" in page) is (state == "running")
    assert 'href="/endpoints/a%20b/comparison"' in page


def test_each_guard_is_there_with_how_it_stands_and_no_rollout_is_no_error():
    findings = [{**finding, "said": "1 < 2"} for finding in LOOKED["findings"]]
    looked = msgspec.structs.replace(ROLLOUT, evidence={**LOOKED, "findings": findings})
    page = render_rollout(Pages(), "iris", looked)
    assert '<td class="standing kept">kept</td>' in page
    assert "1 &lt; 2" in page
    assert "<script" not in page
    assert "titlebout rollout iris VERSION" in render_rollout(Pages(), "iris", None)
