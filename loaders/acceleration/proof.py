"""Whether an engine answers as its estimator does: shown on the saved example and on rows drawn to tell them apart."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from loaders.acceleration.candidates import classes
from loaders.acceleration.engines import Engine
from loaders.acceleration.predictor import FastPredictor, Proven
from loaders.acceleration.rows import draw

Array = np.ndarray

ROWS = 10_000
_ROWS_OF_OTHER_KINDS = 2_000
_ROWS_AGAIN = 500
_ROWS_ALONE = 32
"""The engine is asked for these one by one, too, as it may have a way of its own for one row."""
_SEED = 20_240_607
_RELATIVE = 1e-6
_OF_LARGEST = 1e-12
"""Sums that come out near nothing keep the error of their parts."""
_OTHER_KINDS = ("f", "l", "i")


class Disproved(Exception):
    """An answer that isn't the estimator's; the text says which."""


def prove(estimator: Any, predict_fn: str, engine: Engine, example: Array | None, rows: int = ROWS) -> Proven:
    """What holds of *engine* on *rows* drawn rows and on *example* (n, features), in doubles.

    Other dtypes are tried with fewer rows, since they only differ by how numbers are rounded; one that doesn't hold is
    left to the estimator.

    Raises:
        Disproved: at the first answer that differs.
    """
    trial = _tried(estimator, predict_fn, engine, example, rows)
    kinds = ["d"]
    exact = trial.exact
    for kind in _OTHER_KINDS:
        try:
            other = _tried(estimator, predict_fn, engine, example, min(rows, _ROWS_OF_OTHER_KINDS), kind)
        except Disproved:
            continue
        kinds.append(kind)
        exact = exact and other.exact
    return Proven(kinds=tuple(kinds), axes=trial.axes, exact=exact)


def check_again(estimator: Any, predict_fn: str, engine: Engine, example: Array | None) -> None:
    """Return if *engine*, which was proven before, still holds on a few rows.

    Raises:
        Disproved: if not.
    """
    _tried(estimator, predict_fn, engine, example, _ROWS_AGAIN)


def _tried(
    estimator: Any, predict_fn: str, engine: Engine, example: Array | None, rows: int, kind: str = "d"
) -> "_Trial":
    trial = _Trial(estimator, predict_fn, engine)
    for part in _parts(estimator, example, rows):
        trial.run(part if kind == "d" else _as_kind(part, kind))
    return trial


def _parts(estimator: Any, example: Array | None, rows: int) -> Iterator[Array]:
    if example is not None:
        yield example
    yield from draw(estimator, example, rows, _SEED)


def _as_kind(rows: Array, kind: str) -> Array:
    if kind == "f":
        with np.errstate(over="ignore"):
            return rows.astype(np.float32)
    bound = np.iinfo(kind).max // 2
    whole: Array = np.clip(np.nan_to_num(np.round(rows)), -bound, bound).astype(kind)
    return whole


class _Trial:
    """Rows of one dtype, asked of both."""

    def __init__(self, estimator: Any, predict_fn: str, engine: Engine) -> None:
        self.exact = True
        self.axes = 1
        self._estimator = estimator
        self._engine = engine
        self._predict_fn = predict_fn
        self._labels = classes(estimator) if predict_fn == "predict" else None

    def run(self, rows: Array) -> None:
        labels = self._labels is not None
        expected = getattr(self._estimator, "predict_proba" if labels else self._predict_fn)(rows)
        self._compare_numbers(rows, expected)
        for row in range(min(_ROWS_ALONE, len(rows))):
            self._compare_numbers(rows[row : row + 1], expected[row : row + 1])
        if labels:
            self._compare_labels(rows, self._estimator.predict(rows))

    def _compare_numbers(self, rows: Array, expected: Array) -> None:
        got = self._engine(np.ascontiguousarray(rows, dtype=np.float64))
        if expected.dtype != np.float64 or got.dtype != np.float64 or got.size != expected.size:
            raise Disproved(
                f"it gave {got.dtype} {got.shape} where the estimator gives {expected.dtype} {expected.shape}"
            )
        self.axes = expected.ndim
        got = got.reshape(expected.shape)
        if np.array_equal(got, expected, equal_nan=True):
            return
        self.exact = False
        allowed = _RELATIVE * np.abs(expected) + _OF_LARGEST * np.abs(expected).max()
        differs = ~(np.abs(got - expected) <= allowed)
        if differs.any():
            first = np.flatnonzero(differs.ravel())[0]
            raise Disproved(f"it gave {got.ravel()[first]:.9g} where the estimator gives {expected.ravel()[first]:.9g}")

    def _compare_labels(self, rows: Array, expected: Array) -> None:
        proven = Proven(kinds=(rows.dtype.char,), axes=1, exact=self.exact)
        got = FastPredictor(self._estimator, "predict", self._engine, proven)(rows)
        if got.dtype != expected.dtype or not np.array_equal(got, expected):
            raise Disproved("it gave other labels")
