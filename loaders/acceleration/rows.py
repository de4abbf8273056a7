"""Rows to try a model with where it is most likely to tell differently: at its own thresholds and scales."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from loaders.acceleration.candidates import (
    BOOSTED,
    FORESTS,
    HISTOGRAM_BOOSTED,
    TREES,
    split_pipeline,
    takes_missing,
)

Array = np.ndarray

_CHUNK_ROWS = 5000
_LANDMARKS_MAX = 4096
"""Of one feature; a large forest has more thresholds than are ever drawn."""
_STEPS_OF_TIES = 6


def draw(estimator: Any, example: Array | None, count: int, seed: int) -> Iterator[Array]:
    """*count* rows (n, features) of doubles in parts that take little memory, the same for the same *seed*."""
    scalers, final = split_pipeline(estimator)
    features = int(estimator.n_features_in_)
    random = np.random.default_rng(seed)
    landmarks = [_thinned(points, random) for points in _landmarks(final, features)]
    for start in range(0, count, _CHUNK_ROWS):
        rows = _mixed(landmarks, min(_CHUNK_ROWS, count - start), random)
        if scalers is not None:
            # Landmarks are of what the last step sees. On the way back they lose a bit or two: ties are tried by steps.
            rows = _at_ties(scalers.inverse_transform(rows), random)
        if example is not None:
            _put_examples(rows, example, random)
        if takes_missing(estimator):
            _put_missing(rows, random)
        yield rows


def _landmarks(final: Any, features: int) -> list[Array]:
    """For each feature the values around which answers change."""
    if type(final) in HISTOGRAM_BOOSTED:
        return _histogram_landmarks(final, features)
    if type(final) in TREES | FORESTS | BOOSTED:
        members = [final] if type(final) in TREES else np.ravel(final.estimators_).tolist()
        feature = np.concatenate([member.tree_.feature for member in members])
        threshold = np.concatenate([member.tree_.threshold for member in members])
        # A threshold of infinity parts missing values from all the rest.
        feature, threshold = feature[np.isfinite(threshold)], threshold[np.isfinite(threshold)]
        return [threshold[feature == number] for number in range(features)]
    # A linear model has no places, but scales: values at which each feature moves the answer by about one.
    weights = np.abs(np.atleast_2d(final.coef_)).max(axis=0)
    scales = 1 / np.where(weights > 0, weights, 1.0)
    return [scale * np.array([-100.0, -10.0, -1.0, -0.01, 0.0, 0.01, 1.0, 10.0, 100.0]) for scale in scales]


def _histogram_landmarks(final: Any, features: int) -> list[Array]:
    nodes = np.concatenate([predictor.nodes for stage in final._predictors for predictor in stage])  # noqa: SLF001  (it has no public name)
    nodes = nodes[nodes["is_leaf"] == 0]
    points = [nodes["num_threshold"][nodes["feature_idx"] == number] for number in range(features)]
    return [part[np.isfinite(part)] for part in points]


def _thinned(points: Array, random: np.random.Generator) -> Array:
    """At most a few thousand of *points*, and a range to draw from where there are none."""
    if len(points) == 0:
        return np.array([-1.0, 0.0, 1.0])
    return random.choice(points, _LANDMARKS_MAX, replace=False) if len(points) > _LANDMARKS_MAX else points


def _mixed(landmarks: list[Array], count: int, random: np.random.Generator) -> Array:
    """Half the values at landmarks or a step beside them, the others anywhere around."""
    at = np.column_stack([random.choice(points, count) for points in landmarks])
    low = np.array([points.min() for points in landmarks])
    width = np.array([points.max() for points in landmarks]) - low + 1e-3 * (1 + np.abs(low))
    around = low + width * random.uniform(-0.25, 1.25, at.shape)
    rows: Array = np.where(random.random(at.shape) < 0.5, _at_ties(at, random), around)
    return rows


def _at_ties(values: Array, random: np.random.Generator) -> Array:
    """Each value itself, the next double on either side, itself as a float, or the next float on either side."""
    floats = values.astype(np.float32)
    steps = [
        values,
        np.nextafter(values, np.inf),
        np.nextafter(values, -np.inf),
        floats.astype(np.float64),
        np.nextafter(floats, np.float32(np.inf)).astype(np.float64),
        np.nextafter(floats, np.float32(-np.inf)).astype(np.float64),
    ]
    return np.choose(random.integers(_STEPS_OF_TIES, size=values.shape), steps)


def _put_examples(rows: Array, example: Array, random: np.random.Generator) -> None:
    """Make a fifth of *rows* ones like those of the saved example."""
    where = np.flatnonzero(random.random(len(rows)) < 0.2)
    like = example[random.integers(len(example), size=len(where))]
    rows[where] = like * random.normal(1.0, 0.1, like.shape)


def _put_missing(rows: Array, random: np.random.Generator) -> None:
    kind = random.random(rows.shape)
    rows[kind < 0.05] = np.nan
    rows[(kind >= 0.05) & (kind < 0.06)] = np.inf
    rows[(kind >= 0.06) & (kind < 0.07)] = -np.inf
