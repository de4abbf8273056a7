"""The types that a skops file may name. Ours: the list that comes with a model is never asked.

skops itself trusts scikit-learn's public estimators, losses, numpy's and scipy's ufuncs and random generators. What
fitting adds to those stands here. None of it runs code, opens files or calls what the file names; trees are
looked at after loading (`loaders.estimators.check_trees`).
"""

import inspect

from sklearn import feature_selection
from sklearn.gaussian_process import kernels

_TREES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    # The distances that need no matrix or vector of their own.
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
)
_FITTED = (
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_elkan",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
)
_ARRAYS = (
    "numpy.dtype",
    "numpy.mean",
    "numpy.median",
    "scipy.interpolate._bsplines.BSpline",
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csr.csr_matrix",
)
_SCORES = ("chi2", "f_classif", "f_regression", "mutual_info_classif", "mutual_info_regression", "r_regression")


def trusted_types() -> list[str]:
    """Their full names, as skops compares them."""
    scores = [getattr(feature_selection, name) for name in _SCORES]
    kernel_types = [
        type_
        for _, type_ in inspect.getmembers(kernels, inspect.isclass)
        if issubclass(type_, kernels.Kernel) and type_.__module__ == kernels.__name__
    ]
    named = [f"{thing.__module__}.{thing.__qualname__}" for thing in (*scores, *kernel_types)]
    return [*_TREES, *_FITTED, *_ARRAYS, *named]
