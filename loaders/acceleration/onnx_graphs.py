"""An estimator as an ONNX graph of doubles: linear parts and scalers by skl2onnx, trees by `trees`.

A graph's input is ``X`` (rows, features) and its one output ``Y`` (rows, outputs): of a classifier the probabilities
in the order of ``classes_``, of a regressor the values.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.dummy import DummyClassifier, DummyRegressor

from loaders.acceleration.candidates import (
    BOOSTED,
    FORESTS,
    HISTOGRAM_BOOSTED,
    LINEAR,
    TREES,
    NotConvertible,
    split_pipeline,
)
from loaders.acceleration.trees import FlatTree, constant, flatten, flatten_histogram, sum_node

_OPSET = 21
_ML_OPSET = 3
_ML_OPSET_OF_TREE_ENSEMBLE = 5
"""It has the newer operator, and has the older ones no more."""
# What the opsets came with. Left alone, onnx writes its newest, which a runtime released before it refuses.
_IR_VERSION = 10
_ROWS_OUT = "probabilities"


def convert(estimator: Any, features: int) -> bytes:
    """The graph of *estimator*, one of `candidates`, as the bytes of an ONNX model.

    Raises:
        NotConvertible: with the reason, for what ONNX has no form for.
    """
    scalers, final = split_pipeline(estimator)
    if type(final) in LINEAR:
        graph = _by_skl2onnx(estimator, final, features)
    else:
        graph = _by_skl2onnx(scalers, None, features) if scalers is not None else _empty(features)
        _append_trees(graph, final)
    is_newer = any(node.op_type == "TreeEnsemble" for node in graph.node)
    opsets = {"": _OPSET, "ai.onnx.ml": _ML_OPSET_OF_TREE_ENSEMBLE if is_newer else _ML_OPSET}
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=_IR_VERSION,
    )
    content: bytes = model.SerializeToString()
    return content


def _empty(features: int) -> onnx.GraphProto:
    """A graph that gives what it gets."""
    return helper.make_graph([], "model", [_doubles("X", features)], [_doubles("X", features)])


def _doubles(name: str, width: int | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, width])


def _by_skl2onnx(estimator: Any, final: Any, features: int) -> onnx.GraphProto:
    # A third of a second that trees alone don't need.
    from skl2onnx import to_onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import DoubleTensorType  # noqa: PLC0415

    is_classifier = hasattr(final, "classes_")
    model = to_onnx(
        estimator,
        initial_types=[("X", DoubleTensorType([None, features]))],
        options={id(final): {"zipmap": False}} if is_classifier else None,
        target_opset={"": _OPSET, "ai.onnx.ml": _ML_OPSET},
    )
    graph: onnx.GraphProto = model.graph
    # Of a classifier only the probabilities: labels follow from them, and the runtime leaves out what isn't asked for.
    wanted = _ROWS_OUT if is_classifier else graph.output[0].name
    del graph.output[:]
    graph.output.append(_doubles(wanted, None))
    return graph


def _append_trees(graph: onnx.GraphProto, final: Any) -> None:
    source = graph.output[0].name
    del graph.output[:]
    if type(final) not in HISTOGRAM_BOOSTED:
        # scikit-learn's trees compare the input as floats, though with thresholds that are doubles.
        graph.node.append(helper.make_node("Cast", [source], ["floats"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("Cast", ["floats"], ["rounded"], to=TensorProto.DOUBLE))
        source = "rounded"
    if type(final) in TREES | FORESTS:
        _append_mean(graph, final, source)
    elif type(final) in BOOSTED:
        _append_boosted(graph, final, _boosted_trees(final), final.n_trees_per_iteration_, source)
    else:
        _append_boosted(graph, final, _histogram_trees(final), final.n_trees_per_iteration_, source)
    graph.output.append(_doubles("Y", None))


def _append_mean(graph: onnx.GraphProto, final: Any, source: str) -> None:
    members = final.estimators_ if type(final) in FORESTS else [final]
    outputs = members[0].tree_.value.shape[2]
    graph.node.extend(sum_node([flatten(member.tree_) for member in members], outputs, source, "sum"))
    graph.initializer.append(helper.make_tensor("count", TensorProto.DOUBLE, [], [float(len(members))]))
    graph.node.append(helper.make_node("Div", ["sum", "count"], ["Y"]))


def _boosted_trees(final: Any) -> list[FlatTree]:
    if final.init_ != "zero" and type(final.init_) not in {DummyClassifier, DummyRegressor}:
        raise NotConvertible("it starts from an estimator of its own")
    # Without looking at the row, a dummy starts each from the same numbers.
    start = final._raw_predict_init(np.zeros((1, final.n_features_in_), dtype=np.float32))[0]  # noqa: SLF001  (it has no public name)
    trees = [constant(float(value), target) for target, value in enumerate(start)]
    for stage in final.estimators_:
        trees += [
            flatten(member.tree_, scale=final.learning_rate, target=target) for target, member in enumerate(stage)
        ]
    return trees


def _histogram_trees(final: Any) -> list[FlatTree]:
    start = final._baseline_prediction.ravel()  # noqa: SLF001  (as above; the same below)
    trees = [constant(float(value), target) for target, value in enumerate(start)]
    for stage in final._predictors:  # noqa: SLF001
        trees += [flatten_histogram(predictor.nodes, target) for target, predictor in enumerate(stage)]
    return trees


def _append_boosted(graph: onnx.GraphProto, final: Any, trees: list[FlatTree], outputs: int, source: str) -> None:
    graph.node.extend(sum_node(trees, outputs, source, "raw"))
    link = type(final._loss.link).__name__  # noqa: SLF001  (it has no public name)
    append = _LINKS.get(link)
    # The exponential loss has its own way from a sum to a probability, and that link's name.
    if append is None or type(final._loss).__name__ == "ExponentialLoss":  # noqa: SLF001
        raise NotConvertible(f"its loss's {link} has no form here")
    append(graph)


def _append_identity(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Identity", ["raw"], ["Y"]))


def _append_exp(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Exp", ["raw"], ["Y"]))


def _append_softmax(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Softmax", ["raw"], ["Y"], axis=1))


def _append_sigmoid(graph: onnx.GraphProto) -> None:
    """Of two classes there is one sum, for the second."""
    graph.initializer.append(helper.make_tensor("one", TensorProto.DOUBLE, [], [1.0]))
    graph.node.extend(
        [
            helper.make_node("Sigmoid", ["raw"], ["second"]),
            helper.make_node("Sub", ["one", "second"], ["first"]),
            helper.make_node("Concat", ["first", "second"], ["Y"], axis=1),
        ]
    )


_LINKS: dict[str, Callable[[onnx.GraphProto], None]] = {
    "IdentityLink": _append_identity,
    "LogLink": _append_exp,
    "LogitLink": _append_sigmoid,
    "MultinomialLogit": _append_softmax,
}
