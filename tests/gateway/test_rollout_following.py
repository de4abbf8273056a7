"""What is said of a rollout while it is followed."""

import msgspec
import pytest

from gateway.cli.rollout_following import now_of
from registry.rollout_entities import Before, Rollout, RolloutSpec, RolloutState, Watch

LOOKED = {
    "requests": 1_214.0,
    "findings": [{"name": "failures", "standing": "kept"}, {"name": "p99=1.2x", "standing": "open"}],
}
ROLLOUT = Rollout(
    id="r",
    endpoint="iris",
    endpoint_id="e",
    model="iris",
    version=2,
    spec=RolloutSpec(steps_bp=(100, 500, 10_000), every_s=600.0, watch_s=7_200.0),
    before=Before(champion=1, challenger=None, shares_bp={"champion": 10_000}),
    state=RolloutState.RUNNING,
    step=2,
    reason="because",
    author="ann",
    step_ms=0,
    served_ms=1_000,
    created_ms=0,
    updated_ms=0,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"step": 0, "served_ms": None}, "loading  because", id="on its way into memory"),
        pytest.param(
            {"served_ms": None}, "step 2 of 3 (5 %)  on its way into force", id="a split on its way into force"
        ),
        pytest.param(
            {"evidence": LOOKED},
            "step 2 of 3 (5 %)  9:01 left  1,214 requests  failures kept  p99=1.2x open",
            id="at a step",
        ),
        pytest.param({"served_ms": -700_000}, "step 2 of 3 (5 %)  its time is over", id="waiting for requests"),
        pytest.param({"state": RolloutState.PAUSED}, "step 2 of 3 (5 %)  paused", id="paused"),
        pytest.param(
            {"state": RolloutState.WAITING},
            "step 2 of 3 (5 %)  waits for a person: resume, abort or promote",
            id="waiting for a person",
        ),
        pytest.param(
            {
                "state": RolloutState.WATCHING,
                "step": 3,
                "watch": Watch(began_ms=0, period=4),
                "evidence": {"watched_s": 60.0, "requests": 900.0, "bad": {"failures": 1.0}},
            },
            "step 3 of 3 (100 %)  watched, 1:59:00 left  900 requests  failures 1",
            id="the new champion",
        ),
        pytest.param(
            {"state": RolloutState.WATCHING, "step": 3, "watch": Watch(began_ms=0, period=4), "served_ms": None},
            "step 3 of 3 (100 %)  on its way into force",
            id="one that doesn't answer yet",
        ),
    ],
)
def test_a_line_says_where_it_is_how_long_that_lasts_and_how_it_stands(changes, said):
    assert now_of(msgspec.structs.replace(ROLLOUT, **changes), now_ms=60_000) == said
