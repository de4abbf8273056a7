"""What is concluded of an interval."""

import numpy as np
import pytest

from gateway.comparison.metrics import Better
from gateway.comparison.sample_ratio import SampleRatio
from gateway.comparison.statistics import Interval, Method
from gateway.comparison.verdict import Verdict, judge

FAIR = SampleRatio(asked=0.1, observed=0.1, p_value=1.0, mismatch=False)
UNFAIR = SampleRatio(asked=0.1, observed=0.2, p_value=1e-9, mismatch=True)


def interval(lower, upper, method=Method.ASYMPTOTIC):
    return Interval(lower=np.float64(lower), upper=np.float64(upper), alpha=0.05, method=method)


@pytest.mark.parametrize(
    ("better", "lower", "upper", "minimal", "verdict"),
    [
        pytest.param(Better.HIGHER, 0.01, 0.03, 0, Verdict.BETTER, id="surely more, and more is better"),
        pytest.param(Better.LOWER, 0.01, 0.03, 0, Verdict.WORSE, id="surely more, and less is better"),
        pytest.param(Better.LOWER, -0.03, -0.01, 0, Verdict.BETTER, id="surely less, and less is better"),
        pytest.param(Better.HIGHER, -0.01, 0.03, 0, Verdict.NOT_YET, id="either"),
        pytest.param(Better.HIGHER, 0.01, 0.03, 0.02, Verdict.NOT_YET, id="surely more, but perhaps too little"),
        pytest.param(Better.HIGHER, 0.021, 0.03, 0.02, Verdict.BETTER, id="surely more than that"),
        pytest.param(Better.HIGHER, 0.0, 0.03, 0, Verdict.NOT_YET, id="none is within"),
        pytest.param(Better.HIGHER, -np.inf, np.inf, 0, Verdict.NOT_YET, id="nothing known"),
    ],
)
def test_the_whole_interval_must_say_so(better, lower, upper, minimal, verdict):
    assert judge(better, interval(lower, upper), FAIR, minimal_effect=minimal).verdict is verdict


def test_a_split_that_is_not_as_asked_locks_the_conclusion():
    found = judge(Better.HIGHER, interval(0.2, 0.3), UNFAIR)
    assert (found.verdict, found.locked) == (Verdict.NOT_YET, True)
    assert "20.00%" in found.reason
    assert "10.00%" in found.reason


def test_arms_that_are_alike_are_said_to_be():
    found = judge(Better.HIGHER, interval(-0.004, 0.003), FAIR, minimal_effect=0.005)
    assert (found.verdict, found.alike) == (Verdict.NOT_YET, True)
    assert not judge(Better.HIGHER, interval(-0.006, 0.003), FAIR, minimal_effect=0.005).alike


def test_too_few_clusters_are_named_as_the_reason():
    assert "clusters" in judge(Better.HIGHER, interval(-np.inf, np.inf, Method.NONE), FAIR).reason
