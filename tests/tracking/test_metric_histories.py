"""Histories of metrics as both databases give them."""

import itertools
import math

import pytest

from tracking import experiments, metrics, runs
from tracking.entities import Metric

NOW_MS = 1_700_000_000_000


@pytest.fixture
def run_id(database):
    with database.writing() as session:
        experiment_id = experiments.create_experiment(session, "iris", now_ms=NOW_MS)
        run_id = runs.create_run(session, experiment_id, start_time_ms=NOW_MS).info.run_id
        points = [Metric(key="loss", value=step / 2, timestamp_ms=step, step=step) for step in range(500)]
        runs.log_batch(session, run_id, metrics=points)
    return run_id


@pytest.mark.parametrize("points_max", [1, 2, 3, 7, 99, 499, 500, 501])
def test_a_sample_has_as_many_points_as_asked_for_evenly_spaced_and_the_last_one(database, run_id, points_max):
    with database.reading() as session:
        sample = metrics.sample_history(session, run_id, "loss", points_max=points_max)
    steps = [point.step for point in sample]
    assert len(steps) == min(points_max, 500)
    assert steps[-1] == 499
    if points_max > 1:
        assert steps[0] == 0
        gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
        assert max(gaps) <= 2 * (500 / points_max) + 1


def test_a_sample_within_steps_has_no_others(database, run_id):
    with database.reading() as session:
        sample = metrics.sample_history(session, run_id, "loss", points_max=5, steps=(100, 103))
    assert [point.step for point in sample] == [100, 101, 102, 103]


def test_points_without_steps_are_sampled_by_their_times_and_nan_is_one_of_them(database, run_id):
    with database.writing() as session:
        points = [Metric(key="a", value=math.nan if time == 9 else 1.0, timestamp_ms=time) for time in range(10)]
        runs.log_batch(session, run_id, metrics=points)
        sample = metrics.sample_history(session, run_id, "a", points_max=2)
    assert [point.timestamp_ms for point in sample] == [0, 9]
    assert math.isnan(sample[-1].value)


def test_a_run_or_metric_that_is_not_there_has_no_points(database, run_id):
    with database.reading() as session:
        assert metrics.sample_history(session, run_id, "none", points_max=5) == []
        assert metrics.sample_history(session, run_id, "a\0b", points_max=5) == []
        assert metrics.metric_histories(session, ["none", "a\0b"], "loss", max_results=5) == []
        assert len(metrics.metric_histories(session, [run_id, "none"], "loss", max_results=5)) == 5
