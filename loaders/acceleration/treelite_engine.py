"""Treelite's general inference as an engine: for forests and boosted trees, without scalers before them."""

from typing import Any

import numpy as np
import treelite
import treelite.gtil
import treelite.sklearn

from loaders.acceleration.candidates import HISTOGRAM_BOOSTED, NotConvertible

_DOUBLES = b"D"
_FLOATS = b"F"
"""Said before the model's own bytes: whether its trees look at the input in float64, or rounded to float32."""


def convert(estimator: Any) -> bytes:
    """*estimator* as treelite serializes it.

    Raises:
        NotConvertible: if treelite has no form for it.
    """
    try:
        model = treelite.sklearn.import_model(estimator)
    except (treelite.TreeliteError, NotImplementedError) as error:
        raise NotConvertible(str(error).splitlines()[0]) from error
    return (_DOUBLES if type(estimator) in HISTOGRAM_BOOSTED else _FLOATS) + model.serialize_bytes()


class TreeliteEngine:
    """One model. Its calls may come from several threads."""

    def __init__(self, content: bytes, threads: int) -> None:
        self._rounds = content[:1] == _FLOATS
        self._model = treelite.Model.deserialize_bytes(content[1:])
        self._threads = threads

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        if self._rounds:
            matrix = matrix.astype(np.float32).astype(np.float64)
        result: np.ndarray = treelite.gtil.predict(self._model, matrix, nthread=self._threads)
        return result.reshape(len(matrix), -1)
