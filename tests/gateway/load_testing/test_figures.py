"""What is kept of requests, and what it comes to."""

import pytest

from gateway.load_testing.figures import KINDS_OF_FAILURE_MAX, POINTS_MAX, Observations


@pytest.fixture
def seen():
    observations = Observations()
    for number in range(100):
        failure = "it broke" if number == 99 else None
        observations.add(float(number + 1), ended_s=number / 50, failure=failure)
    return observations


def test_figures_are_those_of_all_requests_failed_or_not(seen):
    figures = seen.figures(3, seconds=2.0, processor_s=0.5)
    assert (figures.version, figures.requests, figures.failed, figures.rps) == (3, 100, 1, 50.0)
    assert (figures.p50_ms, figures.p99_ms, figures.max_ms, figures.mean_ms) == (50, 99, 100, 50.5)
    assert figures.processor_ms == 5
    assert figures.failures == {"it broke": 1}


def test_where_nothing_was_answered_nothing_is_made_up():
    figures = Observations().figures(1, seconds=0.0)
    assert (figures.requests, figures.rps, figures.p99_ms, figures.processor_ms) == (0, 0.0, None, None)
    assert Observations().series(10.0) == []


def test_the_series_has_a_point_for_each_second(seen):
    first, second = seen.series(2.0)
    assert (first.at_s, first.requests, first.failed, first.p99_ms) == (0.0, 50, 0, 50.0)
    assert (second.at_s, second.requests, second.failed, second.p99_ms) == (1.0, 50, 1, 100.0)


def test_a_long_test_has_no_more_points_than_a_picture_shows():
    observations = Observations()
    for second in range(3_600):
        observations.add(1.0, ended_s=float(second))
    assert len(observations.series(3_600)) <= POINTS_MAX


def test_kinds_of_failure_are_bounded():
    observations = Observations()
    for number in range(1000):
        observations.add(1.0, ended_s=0.0, failure=f"failure {number} {'x' * 10_000}")
    figures = observations.figures(1, seconds=1.0)
    assert figures.failed == 1000
    assert len(figures.failures) <= KINDS_OF_FAILURE_MAX + 1
    assert sum(map(len, figures.failures)) < 10_000
