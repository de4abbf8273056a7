"""Calls a second of scikit-learn's own predict and of the faster predictor: ``python -m loadtests.predictors``.

In one process, without a server, rounds of both in turns; each figure is the median of its rounds.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from loaders.acceleration.choice import choose
from loaders.acceleration.wish import AccelerationWish

_ROUNDS = 5
_ROUND_S = 0.3
_ROWS = (1, 32, 1000)


def main() -> None:
    iris = load_iris(return_X_y=True)
    wide = make_classification(5000, 20, n_informative=10, random_state=0)
    print(f"{'model':38} {'rows':>5} {'scikit-learn':>13} {'fast':>9} {'times':>6}")
    for name, estimator, (features, labels) in (
        ("logistic, iris", LogisticRegression(max_iter=500), iris),
        ("scaled logistic, iris", make_pipeline(StandardScaler(), LogisticRegression()), iris),
        ("forest of 100, iris", RandomForestClassifier(100, random_state=0), iris),
        ("forest of 100, 5000 x 20", RandomForestClassifier(100, random_state=0), wide),
        ("histogram boosting of 100, iris", HistGradientBoostingClassifier(random_state=0), iris),
    ):
        estimator.fit(features, labels)
        choice = choose(estimator, "predict", features[:5], AccelerationWish(timeout_s=120))
        for rows in _ROWS:
            matrix = np.resize(features, (rows, features.shape[1]))
            slow, fast = _in_turns(estimator.predict, choice.predict, matrix)
            label = f"{name} ({choice.predictor})"
            print(f"{label:38} {rows:5} {slow:13,.0f} {fast:9,.0f} {fast / slow:6.1f}")


def _in_turns(slow: Callable[[Any], Any], fast: Callable[[Any], Any], matrix: np.ndarray) -> tuple[float, float]:
    rounds = [(_calls_per_s(slow, matrix), _calls_per_s(fast, matrix)) for _ in range(_ROUNDS)]
    return statistics.median(pair[0] for pair in rounds), statistics.median(pair[1] for pair in rounds)


def _calls_per_s(predict: Callable[[Any], Any], matrix: np.ndarray) -> float:
    calls, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < _ROUND_S:
        predict(matrix)
        calls += 1
    return calls / passed


if __name__ == "__main__":
    main()
