"""Reliability curves and their distance from the diagonal."""

import math

import numpy as np
import pytest

from gateway.comparison.calibration import calibration_sums, expected_calibration_error, reliability_curve


def test_a_calibrated_model_lies_on_the_diagonal():
    rng = np.random.default_rng(6)
    predicted = rng.random(200_000)
    sums = calibration_sums(predicted, (rng.random(200_000) < predicted).astype(float))
    assert expected_calibration_error(sums) < 0.01
    assert all(abs(point.predicted - point.observed) < 0.02 for point in reliability_curve(sums))


def test_one_that_is_too_sure_is_as_far_from_it_as_that():
    sums = calibration_sums(np.full(10, 0.9), np.array([1.0] * 6 + [0.0] * 4))
    assert expected_calibration_error(sums) == pytest.approx(0.3)
    (point,) = reliability_curve(sums)
    assert (point.predicted, point.observed, point.labels) == (pytest.approx(0.9), 0.6, 10)


def test_sums_of_two_workers_add_up():
    predicted, came_true = np.array([0.0, 0.5, 1.0, 0.7]), np.array([0.0, 1.0, 1.0, 0.0])
    whole = calibration_sums(predicted, came_true)
    parts = calibration_sums(predicted[:2], came_true[:2]).merged(calibration_sums(predicted[2:], came_true[2:]))
    assert reliability_curve(parts) == reliability_curve(whole)
    assert whole.labels.sum() == 4


def test_without_labels_there_is_no_error_to_speak_of():
    nothing = calibration_sums(np.zeros(0), np.zeros(0))
    assert math.isnan(expected_calibration_error(nothing))
    assert reliability_curve(nothing) == []
