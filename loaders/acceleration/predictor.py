"""An engine in an estimator's place: the same function of the same rows, by the estimator itself where in doubt."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from loaders.acceleration.candidates import classes, is_counted, takes_missing
from loaders.acceleration.engines import Engine

Predict = Callable[[Any], Any]

# What `array.max` and `array.min` do, without the Python around it, which for a few rows costs more than they do.
_largest, _smallest = np.maximum.reduce, np.minimum.reduce

VALUE_MAX = 1e30
"""Larger ones are the estimator's own to judge, which refuses what is beyond float32."""
_WHOLE_MAX = float(2**53)
"""Larger integers lose digits as doubles, which scikit-learn may take otherwise than we do."""
_CLOSE = 2e-6
"""Two labels nearer than this in probability are the estimator's own to choose from.

Twice what the proof lets a probability deviate, so that a label can't be another than the estimator's.
"""


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """What the proof has found of an engine for one estimator and predict function."""

    kinds: tuple[str, ...]
    """The dtypes of rows, by numpy's characters, for which its answers are the estimator's."""
    axes: int
    """Of an answer: 1 for (rows,), 2 for (rows, outputs)."""
    exact: bool
    """Every answer was equal to the last bit."""


class FastPredictor:
    """``estimator.predict`` or ``estimator.predict_proba``, by an engine where that is proven to be the same."""

    def __init__(self, estimator: Any, predict_fn: str, engine: Engine, proven: Proven) -> None:
        self._slow: Predict = getattr(estimator, predict_fn)
        self._engine = engine
        self._proven = proven
        self._features = int(estimator.n_features_in_)
        self._takes_missing = takes_missing(estimator)
        self._labels = classes(estimator) if predict_fn == "predict" else None
        # Votes that are counted as scikit-learn counts them break ties as it does, too.
        self._ties_are_same = proven.exact and is_counted(estimator)

    def __call__(self, rows: Any) -> Any:
        matrix = self._doubles(rows)
        if matrix is None:
            return self._slow(rows)
        scores = self._engine(matrix)
        if self._labels is not None:
            return self._chosen(self._labels, scores, rows)
        return scores.reshape(-1) if self._proven.axes == 1 else scores

    def _doubles(self, rows: Any) -> np.ndarray | None:
        """*rows* for the engine; None for what it can't vouch for, missing and huge values among them."""
        if (
            not isinstance(rows, np.ndarray)
            or rows.dtype.char not in self._proven.kinds
            or rows.ndim != 2
            or rows.shape[1] != self._features
            or not len(rows)
        ):
            return None
        matrix = np.ascontiguousarray(rows, dtype=np.float64)
        bound = _WHOLE_MAX if rows.dtype.kind == "i" else VALUE_MAX
        # NaN compares as false, and so is refused with the rest.
        if self._takes_missing or (_largest(matrix, None) <= bound and _smallest(matrix, None) >= -bound):
            return matrix
        return None

    def _chosen(self, labels: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = labels.take(scores.argmax(axis=1))
        if self._ties_are_same:
            return chosen
        # Asked in this way, a score that is no number counts as close.
        far = scores < _largest(scores, 1, keepdims=True) - _CLOSE
        # Each row has one that isn't. Counted all together first, which nearly always is all there is to do.
        if far.size - np.count_nonzero(far) > len(rows):
            close = np.count_nonzero(far, axis=1) < far.shape[1] - 1
            chosen[close] = self._slow(rows[close])
        return chosen
