"""Which estimators may have a faster equivalent, told by their exact classes: a subclass may answer as it likes."""

from typing import Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
    SGDRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

LINEAR = frozenset(
    {
        LinearRegression, Ridge, RidgeCV, Lasso, LassoCV, ElasticNet, ElasticNetCV, BayesianRidge, SGDRegressor,
        LogisticRegression, LogisticRegressionCV,
    }
)  # fmt: skip
TREES = frozenset({DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor})
FORESTS = frozenset({RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor})
BOOSTED = frozenset({GradientBoostingClassifier, GradientBoostingRegressor})
HISTOGRAM_BOOSTED = frozenset({HistGradientBoostingClassifier, HistGradientBoostingRegressor})
SCALERS = frozenset({StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler})
_FINAL = LINEAR | TREES | FORESTS | BOOSTED | HISTOGRAM_BOOSTED


class NotConvertible(Exception):
    """No faster equivalent is known; the text says why."""


def check(estimator: Any, predict_fn: str) -> None:
    """Return if *estimator* is one that a faster equivalent may be looked for.

    Raises:
        NotConvertible: if not.
    """
    scalers, final = split_pipeline(estimator)
    steps = [] if scalers is None else [step for _, step in scalers.steps]
    for step, known in [*((step, SCALERS) for step in steps), (final, _FINAL)]:
        if type(step) not in known:
            raise NotConvertible(f"{type(step).__name__} has no faster equivalent")
    if predict_fn not in {"predict", "predict_proba"}:
        raise NotConvertible(f"{predict_fn} has no faster equivalent")
    classes = getattr(final, "classes_", None)
    if classes is not None and (not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) < 2):
        raise NotConvertible("it has several outputs or a single class")
    if getattr(final, "is_categorical_", None) is not None:
        # What it does with categories that fitting never saw, converters do otherwise.
        raise NotConvertible("it has features that are categories")
    if getattr(final, "n_outputs_", 1) != 1:
        raise NotConvertible("it has several outputs")


def split_pipeline(estimator: Any) -> tuple[Pipeline | None, Any]:
    """What stands before the last step, and that step."""
    if type(estimator) is not Pipeline:
        return None, estimator
    if len(estimator.steps) == 1:
        return None, estimator.steps[0][1]
    return Pipeline(estimator.steps[:-1]), estimator.steps[-1][1]


def classes(estimator: Any) -> np.ndarray | None:
    """The labels, in the order of probabilities; None for a regressor."""
    found: np.ndarray | None = getattr(split_pipeline(estimator)[1], "classes_", None)
    return found


def is_counted(estimator: Any) -> bool:
    """Whether its label is the first of the largest probabilities, as in a tree or a forest."""
    return type(split_pipeline(estimator)[1]) in TREES | FORESTS


def takes_missing(estimator: Any) -> bool:
    """Whether NaN and infinity are values like others to it, whatever it was fitted with."""
    scalers, final = split_pipeline(estimator)
    # A scaler passes NaN on, but not infinity; so before it these rows are the estimator's own to judge.
    return scalers is None and type(final) in HISTOGRAM_BOOSTED
