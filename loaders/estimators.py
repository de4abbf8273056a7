"""What is inside a fitted scikit-learn estimator, and whether its trees are sound.

A file without code can still hurt: scikit-learn follows the node numbers of a tree without looking whether they lie
within its arrays, so a forged one reads foreign memory, crashes the process, or never ends
(scikit-learn pull request 34558; skops therefore trusts no trees by itself).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import sklearn.base
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.neighbors import BallTree, KDTree
from sklearn.pipeline import Pipeline
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

_ATOMS = (str, bytes, int, float, bool, type(None), type)


class UnsoundTree(Exception):
    """A tree whose nodes lead out of its arrays."""


def parts(root: Any) -> Iterator[Any]:
    """Everything reachable from *root* by attributes, lists, tuples, dicts and arrays of objects, each thing once."""
    seen: set[int] = set()
    open_: list[Any] = [root]
    while open_:
        thing = open_.pop()
        if isinstance(thing, _ATOMS) or id(thing) in seen:
            continue
        seen.add(id(thing))
        yield thing
        match thing:
            case dict():
                open_.extend(thing.values())
            case list() | tuple() | set() | frozenset():
                open_.extend(thing)
            case np.ndarray() if thing.dtype == object:
                open_.extend(thing.ravel().tolist())
            case _:
                open_.extend(getattr(thing, "__dict__", {}).values())


def check_trees(root: Any) -> None:
    """Look at every tree within *root*.

    Raises:
        UnsoundTree: if one of them isn't what fitting makes.
    """
    owned: set[int] = set()
    trees: list[Tree | TreePredictor] = []
    for part in parts(root):
        match part:
            case BaseDecisionTree(tree_=Tree() as tree):
                owned.add(id(tree))
                _require(getattr(part, "n_features_in_", None) == tree.n_features)
            case BaseGradientBoosting():
                _check_boosted(part)
            case BaseHistGradientBoosting(_predictors=list() as predictors):
                owned.update(_check_histogram_boosted(part, predictors))
            case Tree() | TreePredictor():
                trees.append(part)
            case KDTree() | BallTree():
                _check_neighbours(part)
            case _:
                pass
    for tree in trees:
        # One that no estimator owns has nobody who checks the width of its input.
        _require(id(tree) in owned)
        if isinstance(tree, Tree):
            _check_tree(tree)


def takes_matrix(root: Any) -> bool:
    """Whether *root* is made of scikit-learn's own estimators that look at values, never at the names of columns."""
    for part in parts(root):
        if isinstance(part, sklearn.base.BaseEstimator):
            module, name = type(part).__module__, type(part).__name__
            if not module.startswith("sklearn.") or name in {"ColumnTransformer", "FunctionTransformer"}:
                return False
    return True


def takes_texts(root: Any) -> bool:
    """Whether the first thing that *root* does with its input is to split texts into words."""
    while isinstance(root, Pipeline) and root.steps:
        root = root.steps[0][1]
    return isinstance(root, CountVectorizer | HashingVectorizer)


def _check_tree(tree: Tree) -> None:
    count = tree.node_count
    _require(0 < count <= tree.capacity)
    left, right = tree.children_left, tree.children_right
    inner = left != -1
    own = np.arange(count)
    # Fitting numbers children after their parents. That they are so also rules out a circle.
    _require(np.all((left > own) & (left < count) & (right > own) & (right < count), where=inner))
    _require(np.all((tree.feature >= 0) & (tree.feature < tree.n_features), where=inner))


def _check_boosted(boosting: Any) -> None:
    estimators = getattr(boosting, "estimators_", None)
    if estimators is None:
        return
    _require(isinstance(estimators, np.ndarray) and estimators.ndim == 2)
    _require(estimators.shape[1] == boosting.n_trees_per_iteration_)
    for estimator in estimators.ravel():
        tree = getattr(estimator, "tree_", None)
        _require(isinstance(tree, Tree) and tree.n_features == boosting.n_features_in_ and tree.n_outputs == 1)


def _check_histogram_boosted(boosting: Any, predictors: list[Any]) -> list[int]:
    features = boosting.n_features_in_
    categorical = getattr(boosting._bin_mapper, "is_categorical_", None)  # noqa: SLF001  (it has no public name)
    _require(categorical is None or len(categorical) == features)
    checked: list[int] = []
    for predictor in (predictor for iteration in predictors for predictor in iteration):
        _require(isinstance(predictor, TreePredictor))
        _check_predictor(predictor, features)
        checked.append(id(predictor))
    return checked


def _check_predictor(predictor: TreePredictor, features: int) -> None:
    nodes = predictor.nodes
    count = len(nodes)
    _require(count > 0)
    inner = nodes["is_leaf"] == 0
    own = np.arange(count)
    for side in ("left", "right"):
        children = nodes[side].astype(np.int64)
        _require(np.all((children > own) & (children < count), where=inner))
    _require(np.all((nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < features), where=inner))
    bitsets = min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))
    _require(np.all(nodes["bitset_idx"] < bitsets, where=inner & (nodes["is_categorical"] != 0)))


def _check_neighbours(tree: KDTree | BallTree) -> None:
    """Look at a tree of neighbours: node k's children are 2k+1 and 2k+2, and each node holds a range of points."""
    points, indices, nodes, bounds = (np.asarray(array) for array in tree.get_arrays())
    count, rows = len(nodes), len(points)
    _require(points.ndim == 2 and len(indices) == rows and tree.__getstate__()[6] == count > 0)
    _require(np.all((indices >= 0) & (indices < rows)))
    _require(bounds.shape[1:] == (count, points.shape[1]))
    start, end = nodes["idx_start"], nodes["idx_end"]
    _require(np.all((start >= 0) & (start <= end) & (end <= rows)))
    _require(np.all(2 * np.arange(count) + 2 < count, where=nodes["is_leaf"] == 0))
    weights = tree.__getstate__()[12]
    _require(weights is None or len(weights) == rows)


def _require(sound: Any) -> None:
    if not sound:
        raise UnsoundTree
