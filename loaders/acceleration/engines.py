"""What can stand in for an estimator, in the order in which they are tried, and how each is made and put to work.

An engine takes doubles (rows, features) to doubles (rows, outputs): probabilities in the order of ``classes_``, or
values. Its libraries come in when it is asked for.
"""

import importlib.util
import os
from collections.abc import Callable
from enum import StrEnum
from importlib import metadata
from typing import Any, assert_never

import numpy as np

Engine = Callable[[np.ndarray], np.ndarray]


class EngineName(StrEnum):
    ONNXRUNTIME = "onnxruntime"
    TREELITE = "treelite"


_DISTRIBUTIONS = {
    EngineName.ONNXRUNTIME: ("onnxruntime", "onnx", "skl2onnx"),
    EngineName.TREELITE: ("treelite",),
}
INSTALL = "titlebout[fast]"


def is_installed(name: EngineName) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in _DISTRIBUTIONS[name])


def preload() -> None:
    """Import what engines run on, where it is there and cheap: 40 ms and 26 MB, shared by every host forked later.

    The converters (a quarter of a second, 23 MB) are left to the process that converts, which ends with its work.
    """
    if is_installed(EngineName.ONNXRUNTIME):
        import onnxruntime  # noqa: F401, PLC0415  (see this module's docstring; the same below)


def versions() -> dict[str, str]:
    """The releases on which an engine's answers depend, of those that are installed."""
    names = ["scikit-learn", "numpy", *(name for names in _DISTRIBUTIONS.values() for name in names)]
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def convert(name: EngineName, estimator: Any, features: int) -> bytes:
    """*estimator* in the form that the engine reads.

    Raises:
        NotConvertible: with the reason. A converter's own errors may be of any kind.
    """
    match name:
        case EngineName.ONNXRUNTIME:
            from loaders.acceleration import onnx_graphs  # noqa: PLC0415

            return onnx_graphs.convert(estimator, features)
        case EngineName.TREELITE:
            from loaders.acceleration import treelite_engine  # noqa: PLC0415

            return treelite_engine.convert(estimator)
    assert_never(name)


def start(name: EngineName, content: bytes) -> Engine:
    match name:
        case EngineName.ONNXRUNTIME:
            from loaders.acceleration.onnx_engine import OnnxEngine  # noqa: PLC0415

            return OnnxEngine(content, threads())
        case EngineName.TREELITE:
            from loaders.acceleration.treelite_engine import TreeliteEngine  # noqa: PLC0415

            return TreeliteEngine(content, threads())
    assert_never(name)


def threads() -> int:
    """How many threads a prediction may take: ``OMP_NUM_THREADS``, else one.

    With one, trees are summed in scikit-learn's order, to the last bit and whatever the number of rows; several sum
    parts of a forest side by side. Nor do the models of a machine then take each other's processors by default.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) > 0 else 1
