"""What a rollout does next: bad comes first, then its time, then what there is to judge by."""

import pytest

from gateway.rollouts.decision import NOTHING_COUNTED, Finding, Ruling, Standing
from gateway.rollouts.judging import LOAD_LONGEST_S, Seen, judge_paused, judge_step
from registry.rollout_entities import RolloutSpec

SPEC = RolloutSpec(steps_bp=(100, 10_000), every_s=60.0, requests_min=50)
ACCURACY = RolloutSpec(steps_bp=(100, 10_000), every_s=60.0, requests_min=50, metric="accuracy")
CAREFUL = RolloutSpec(steps_bp=(100, 10_000), every_s=60.0, requests_min=50, metric="accuracy", on_undecided="wait")
GO, STOP, WAIT, NOT_YET = Ruling.GO, Ruling.STOP, Ruling.WAIT, Ruling.NOT_YET


def guard(standing):
    return Finding(name="failures", standing=standing, said="5 of 50 requests failed")


FINE, BAD = (guard(Standing.OPEN),), (guard(Standing.BROKEN),)
BLIND = (Finding(name="p99=1.2x", standing=Standing.OPEN, said="unknown", blind=True),)
NEVER_S = LOAD_LONGEST_S + 1


def metric(standing, said="0.88 where the champion's is 0.9"):
    return Finding(name="accuracy", standing=standing, said=said)


NO_LABEL = (Finding(name="accuracy", standing=Standing.OPEN, said=NOTHING_COUNTED, blind=True),)


def seen(served_s=60.0, requests=50.0, findings=FINE, since_s=60.0, **more):
    return Seen(served_s=served_s, since_s=since_s, requests=requests, findings=findings, **more)


@pytest.mark.parametrize(
    ("spec", "step", "what", "ruling", "why"),
    [
        pytest.param(SPEC, 1, seen(), GO, "5 of 50", id="an open guard stops nothing"),
        pytest.param(SPEC, 1, seen(findings=()), GO, "its time is over", id="nothing to go by but time"),
        pytest.param(SPEC, 1, seen(served_s=59.0), NOT_YET, "1 s of this step", id="its time isn't over"),
        pytest.param(SPEC, 1, seen(findings=BAD), STOP, "failures: 5 of 50", id="a broken guard"),
        pytest.param(
            SPEC, 1, seen(served_s=1.0, findings=BAD), STOP, "failures", id="which has no time"
        ),
        pytest.param(
            SPEC, 1, seen(findings=BAD, mismatch="12 % for 10 %"), STOP, "failures", id="nor mismatch"
        ),
        pytest.param(SPEC, 1, seen(mismatch="12 % for 10 %"), WAIT, "12 %", id="a split that isn't as asked"),
        pytest.param(SPEC, 1, seen(requests=49.0), NOT_YET, "49 requests", id="too few requests"),
        pytest.param(SPEC, 1, seen(served_s=601.0, requests=49.0), WAIT, "in 601 s", id="too few for too long"),
        pytest.param(SPEC, 1, seen(findings=BLIND), NOT_YET, "to compare p99=1.2x with", id="nothing to compare with"),
        pytest.param(SPEC, 1, seen(served_s=601.0, findings=BLIND), WAIT, "in 601 s", id="nor then"),
        pytest.param(SPEC, 0, seen(), GO, "in memory", id="loaded"),
        pytest.param(SPEC, 0, seen(served_s=None, problem="no file"), NOT_YET, "no file", id="not loaded"),
        pytest.param(
            SPEC, 0, seen(served_s=None, since_s=NEVER_S, problem="no file"), WAIT, "no file", id="never loaded"
        ),
        pytest.param(SPEC, 1, seen(served_s=None), NOT_YET, "split to be in force", id="not in force"),
        pytest.param(ACCURACY, 1, seen(findings=(metric(Standing.KEPT),)), GO, "accuracy", id="the metric is no worse"),
        pytest.param(ACCURACY, 1, seen(findings=(metric(Standing.BROKEN),)), STOP, "0.88", id="the metric is worse"),
        pytest.param(ACCURACY, 1, seen(findings=(metric(Standing.OPEN),)), GO, "nothing bad", id="undecided"),
        pytest.param(CAREFUL, 1, seen(findings=(metric(Standing.OPEN),)), WAIT, "undecided", id="or waits"),
        pytest.param(ACCURACY, 1, seen(findings=NO_LABEL), NOT_YET, "nothing to decide by", id="no label yet"),
        pytest.param(ACCURACY, 1, seen(served_s=601.0, findings=NO_LABEL), WAIT, "of accuracy", id="nor after long"),
    ],
)  # fmt: skip
def test_judge_step(spec, step, what, ruling, why):
    judged = judge_step(spec, step, what)
    assert judged.ruling is ruling
    assert why in judged.reason


@pytest.mark.parametrize(
    ("what", "ruling"),
    [
        pytest.param(seen(), NOT_YET, id="nothing moves it"),
        pytest.param(seen(mismatch="12 % for 10 %"), NOT_YET, id="a person is asked already"),
        pytest.param(seen(findings=BAD), STOP, id="but what is bad"),
    ],
)
def test_while_it_is_paused_only_what_is_bad_is_acted_on(what, ruling):
    assert judge_paused(what).ruling is ruling
