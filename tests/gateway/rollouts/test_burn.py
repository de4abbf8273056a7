"""A new champion that burns its budget is gone back from; one that doesn't isn't, and samples stay few."""

import numpy as np
import pytest

from gateway.comparison.latency_counts import counts_of, no_requests
from gateway.rollouts.burn import SAMPLES_PER_WATCH, burnt, kept, sample
from registry.rollout_entities import Objective, Sample

HOUR_S = 3_600.0
FAILURES = Objective(name="failures", budget=0.001)
P99 = Objective(name="p99=1.2x", budget=0.01, limit_s=0.02)


def history(*parts, per_sample=125):
    """Samples of an hour, *parts* of (how many, which rate fails): 10 requests a second."""
    samples, requests, bad = [Sample(at_ms=0, requests=0.0, bad=(0.0,))], 0.0, 0.0
    for count, rate in parts:
        for _ in range(count):
            requests, bad = requests + per_sample, bad + per_sample * rate
            at_ms = int(len(samples) * 1000 * HOUR_S / SAMPLES_PER_WATCH)
            samples.append(Sample(at_ms=at_ms, requests=requests, bad=(bad,)))
    return samples


@pytest.mark.parametrize(
    ("samples", "is_burnt"),
    [
        pytest.param(history((100, 0.0)), False, id="nothing fails"),
        pytest.param(history((200, 0.001)), False, id="as much fails as may"),
        pytest.param(history((200, 0.005)), False, id="five times as much, which a person may look at"),
        pytest.param(history((60, 0.0), (20, 0.05)), True, id="5 % fail"),
        pytest.param(history((40, 0.0), (120, 0.008)), True, id="eight times as much for long"),
        pytest.param(history((60, 0.0), (20, 0.05), (12, 0.0)), False, id="5 % did, and it is over"),
        pytest.param(history((6, 0.05)), False, id="5 % in the first minute"),
        pytest.param(history((8, 0.05)), True, id="and on"),
        pytest.param([], False, id="no sample"),
        pytest.param(
            [Sample(at_ms=0, requests=0.0, bad=(0.0,)), Sample(at_ms=99, requests=3.0, bad=(1.0,))],
            False,
            id="one of three failed",
        ),
    ],
)
def test_a_budget_is_burnt_by_what_matters_goes_on_and_is_no_chance(samples, is_burnt):
    assert bool(burnt([FAILURES], samples, HOUR_S)) is is_burnt


def test_the_reason_names_objective_and_figures():
    said = burnt([FAILURES], history((30, 0.05)), HOUR_S)
    assert said.startswith("failures: the budget of 0.10% is burnt 50.0 times too fast over 300 s")


def test_samples_are_kept_for_as_long_as_a_window_reaches_back():
    samples = ()
    for number in range(1, 1_000):
        taken = Sample(at_ms=int(number * 1000 * HOUR_S / SAMPLES_PER_WATCH), requests=1.0, bad=())
        samples = kept(samples, taken, HOUR_S)
        oldest_ms = taken.at_ms - 1000 * HOUR_S / 2
        assert number < 150 or samples[0].at_ms <= oldest_ms
    assert len(samples) <= SAMPLES_PER_WATCH / 2 + 2


def test_a_sample_counts_failures_and_what_is_surely_too_slow():
    counts = counts_of(np.array([0.001, 0.019, 0.021, 0.5]))
    assert sample([FAILURES, P99], 4.0, 1.0, counts, 7) == Sample(at_ms=7, requests=4.0, bad=(1.0, 1.0))
    assert sample([P99], 0.0, 0.0, no_requests(), 7).bad == (0.0,)
