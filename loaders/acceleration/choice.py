"""Which code answers for an estimator: an engine that is proven for it, or its own predict, and why."""

import logging
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loaders.acceleration import candidates, engines, preparing
from loaders.acceleration.candidates import NotConvertible
from loaders.acceleration.predictor import FastPredictor
from loaders.acceleration.proof import check_again
from loaders.acceleration.wish import AccelerationWish

_log = logging.getLogger(__name__)

ESTIMATOR = "sklearn"


class Choice(msgspec.Struct, frozen=True):
    predict: Callable[[Any], Any]
    predictor: str
    reason: str
    """Why it is this one, for people; empty where there is nothing to say."""


def choose(estimator: Any, predict_fn: str, example: np.ndarray | None, wish: AccelerationWish | None) -> Choice:
    """The fastest that is proven to answer as *estimator* does on *example* (n, features) and on rows of our drawing.

    *estimator* must be one that takes matrices, and know no names of columns.
    """
    own = getattr(estimator, predict_fn)
    if wish is None:
        return Choice(own, ESTIMATOR, "acceleration is switched off")
    try:
        candidates.check(estimator, predict_fn)
        preparing.check_range(estimator)
    except NotConvertible as error:
        return Choice(own, ESTIMATOR, str(error))
    with tempfile.TemporaryDirectory() if wish.folder is None else nullcontext(wish.folder) as folder:
        return _prepared(estimator, predict_fn, example, Path(folder), wish.timeout_s)


def _prepared(estimator: Any, predict_fn: str, example: np.ndarray | None, folder: Path, timeout_s: float) -> Choice:
    own = getattr(estimator, predict_fn)
    outcome = preparing.prepare(estimator, predict_fn, example, folder, timeout_s)
    if outcome.engine is None or outcome.proven is None:
        return Choice(own, ESTIMATOR, outcome.reason)
    try:
        engine = engines.start(outcome.engine, preparing.content(outcome, folder))
        check_again(estimator, predict_fn, engine, example)
    except Exception as error:  # A library's own errors may be of any kind; none may cost us the model.
        _log.warning("engine_refused", exc_info=True)
        preparing.forget(folder)
        return Choice(own, ESTIMATOR, f"{outcome.engine}: {error}".splitlines()[0])
    return Choice(FastPredictor(estimator, predict_fn, engine, outcome.proven), outcome.engine, outcome.reason)
