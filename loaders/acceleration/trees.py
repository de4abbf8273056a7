"""Trees of scikit-learn as nodes of an ONNX graph, with sums in double precision and in scikit-learn's own order.

skl2onnx writes trees whose sums are floats, and none for double inputs but a random forest's. These give the
estimator's answers to the last bit.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray

_AGGREGATE_SUM = 1
_POST_TRANSFORM_NONE = 0
_ML_DOMAIN = "ai.onnx.ml"


class FlatTree(msgspec.Struct, frozen=True):
    """One tree by arrays over its nodes; a leaf is its own child, as numbers of nodes say."""

    left: Array
    """Where a row goes whose feature is at most the threshold."""
    right: Array
    feature: Array
    threshold: Array
    nan_left: Array
    value: Array
    """(nodes, outputs) in float64; only those of leaves count."""
    target: int = 0
    """The first of the outputs that this tree adds to."""

    @property
    def is_leaf(self) -> Array:
        leaves: Array = self.left == np.arange(len(self.left))
        return leaves


def flatten(tree: Any, *, scale: float | None = None, target: int = 0) -> FlatTree:
    """One ``sklearn.tree._tree.Tree``, its values multiplied by *scale* as gradient boosting does."""
    own = np.arange(tree.node_count)
    leaf = tree.children_left == -1
    value = tree.value[:, 0, :]
    return FlatTree(
        left=np.where(leaf, own, tree.children_left),
        right=np.where(leaf, own, tree.children_right),
        feature=np.where(leaf, 0, tree.feature),
        threshold=np.where(leaf, 0.0, tree.threshold),
        nan_left=np.zeros(tree.node_count, dtype=np.int64),
        value=value if scale is None else scale * value,
        target=target,
    )


def flatten_histogram(nodes: Array, target: int) -> FlatTree:
    """The *nodes* of a ``TreePredictor`` of histogram gradient boosting, without categories."""
    own = np.arange(len(nodes))
    leaf = nodes["is_leaf"] != 0
    return FlatTree(
        left=np.where(leaf, own, nodes["left"]),
        right=np.where(leaf, own, nodes["right"]),
        feature=np.where(leaf, 0, nodes["feature_idx"]),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        nan_left=np.where(leaf, 0, nodes["missing_go_to_left"]),
        value=nodes["value"].reshape(-1, 1),
        target=target,
    )


def constant(value: float, target: int) -> FlatTree:
    """A tree of one leaf: what a sum starts from, in its place in the order of adding."""
    none = np.zeros(1, dtype=np.int64)
    return FlatTree(none, none, none, np.zeros(1), none, np.full((1, 1), value), target)


def sum_node(trees: Sequence[FlatTree], outputs: int, source: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that take the doubles *source* (rows, features) to the doubles *result* (rows, outputs), summed over trees.

    The older operator takes all of a leaf's values at once but gives floats, which hold whole numbers alone: those of
    a forest grown to pure leaves, where it is two to three times as fast for many rows.
    """
    wide = trees[0].value.shape[1] > 1
    if wide and all(_is_whole(tree) for tree in trees):
        floats = f"{result}_float"
        return [
            _whole_sums(trees, outputs, source, floats),
            helper.make_node("Cast", [floats], [result], to=onnx.TensorProto.DOUBLE),
        ]
    return [_double_sums(_one_output_each(trees), outputs, source, result)]


def _is_whole(tree: FlatTree) -> bool:
    values = tree.value[tree.is_leaf]
    return bool(np.all(values == np.round(values)))


def _one_output_each(trees: Iterable[FlatTree]) -> list[FlatTree]:
    """Trees with one output: the newer operator's leaves hold one value, so that the others are copies."""
    return [
        msgspec.structs.replace(tree, value=tree.value[:, [output]], target=tree.target + output)
        for tree in trees
        for output in range(tree.value.shape[1])
    ]


def _whole_sums(trees: Sequence[FlatTree], outputs: int, source: str, result: str) -> onnx.NodeProto:
    counts = [len(tree.left) for tree in trees]
    leaves = np.concatenate([tree.is_leaf for tree in trees])
    tree_ids = np.repeat(np.arange(len(trees)), counts)
    node_ids = np.concatenate([np.arange(count) for count in counts])
    values = np.concatenate([tree.value for tree in trees])
    # Each leaf names at least one output, and of the others those that it adds anything to.
    named = leaves[:, None] & ((values != 0) | (np.arange(outputs) == 0))
    rows, targets = np.nonzero(named)
    return helper.make_node(
        "TreeEnsembleRegressor",
        [source],
        [result],
        domain=_ML_DOMAIN,
        aggregate_function="SUM",
        n_targets=outputs,
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_modes=np.where(leaves, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_featureids=np.concatenate([tree.feature for tree in trees]).tolist(),
        # A leaf's children are written as 0; which they are is not looked at.
        nodes_truenodeids=np.where(leaves, 0, np.concatenate([tree.left for tree in trees])).tolist(),
        nodes_falsenodeids=np.where(leaves, 0, np.concatenate([tree.right for tree in trees])).tolist(),
        nodes_values_as_tensor=numpy_helper.from_array(np.concatenate([tree.threshold for tree in trees])),
        target_treeids=tree_ids[rows].tolist(),
        target_nodeids=node_ids[rows].tolist(),
        target_ids=targets.tolist(),
        target_weights_as_tensor=numpy_helper.from_array(values[rows, targets]),
    )


def _double_sums(trees: Sequence[FlatTree], outputs: int, source: str, result: str) -> onnx.NodeProto:
    """The operator of ai.onnx.ml 5, in which inner nodes and leaves are numbered apart, over all trees."""
    parts = _Numbered()
    for tree in trees:
        parts.add(tree)
    return helper.make_node(
        "TreeEnsemble",
        [source],
        [result],
        domain=_ML_DOMAIN,
        aggregate_function=_AGGREGATE_SUM,
        post_transform=_POST_TRANSFORM_NONE,
        n_targets=outputs,
        tree_roots=parts.roots,
        nodes_featureids=_joined(parts.feature),
        nodes_splits=numpy_helper.from_array(np.concatenate(parts.threshold)),
        nodes_modes=numpy_helper.from_array(np.zeros(parts.inner, dtype=np.uint8)),
        nodes_missing_value_tracks_true=_joined(parts.nan_left),
        nodes_truenodeids=_joined(parts.true_id),
        nodes_trueleafs=_joined(parts.true_is_leaf),
        nodes_falsenodeids=_joined(parts.false_id),
        nodes_falseleafs=_joined(parts.false_is_leaf),
        leaf_targetids=_joined(parts.leaf_target),
        leaf_weights=numpy_helper.from_array(np.concatenate(parts.leaf_value)),
    )


class _Numbered:
    """Inner nodes and leaves of several trees, as the operator numbers them."""

    def __init__(self) -> None:
        self.inner = self.leaves = 0
        self.roots: list[int] = []
        self.feature: list[Array] = []
        self.threshold: list[Array] = []
        self.nan_left: list[Array] = []
        self.true_id: list[Array] = []
        self.true_is_leaf: list[Array] = []
        self.false_id: list[Array] = []
        self.false_is_leaf: list[Array] = []
        self.leaf_target: list[Array] = []
        self.leaf_value: list[Array] = []

    def add(self, tree: FlatTree) -> None:
        leaf = tree.is_leaf
        # A root must be an inner node. Of a tree that is one leaf, it is one whose both sides lead there.
        inner = ~leaf if len(leaf) > 1 else np.ones(1, dtype=bool)
        number = np.where(leaf, self.leaves + np.cumsum(leaf) - 1, self.inner + np.cumsum(inner) - 1)
        left, right = tree.left[inner], tree.right[inner]
        self.roots.append(self.inner)
        self.feature.append(tree.feature[inner])
        self.threshold.append(tree.threshold[inner])
        self.nan_left.append(tree.nan_left[inner])
        self.true_id.append(number[left])
        self.true_is_leaf.append(leaf[left])
        self.false_id.append(number[right])
        self.false_is_leaf.append(leaf[right])
        self.leaf_target.append(np.full(int(leaf.sum()), tree.target))
        self.leaf_value.append(tree.value[leaf, 0])
        self.inner += int(inner.sum())
        self.leaves += int(leaf.sum())


def _joined(arrays: Iterable[Array]) -> list[int]:
    joined: list[int] = np.concatenate(list(arrays)).astype(np.int64).tolist()
    return joined
