"""python_function: custom models, and every flavor without a loader of its own, through MLflow's own loader.

Loading runs the model's code by design, whatever the format, so the code policy stands before all of it.
"""

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before the import: MLflow would otherwise call home from its own thread, and the models of some flavors a hub.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import msgspec
import numpy as np
import pandas as pd

with warnings.catch_warnings(record=True):
    # What it advises authors of models is lost on whoever serves them. Recorded, since it undoes plain filters.
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

from loaders.base import Answer, Batch, Form, JsonAnswer
from loaders.code_policy import CodePermit
from loaders.errors import BadInput, LibraryNotInstalled
from loaders.mlmodel import MLmodel
from loaders.requirements import pin_warnings
from loaders.signature import Signature

FLAVOR = "python_function"
BATCHABLE = "titlebout.batchable"
"""Key of the model's metadata by which its author says that each row is answered by itself, whatever its company."""
_CALLERS_FAULT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}


class PyfuncModel:
    """One model behind MLflow's ``PyFuncModel``, fed what MLflow's scoring server would feed it."""

    flavor = FLAVOR
    predictor = "mlflow.pyfunc"

    def __init__(self, model: Any, mlmodel: MLmodel, notes: tuple[str, ...]) -> None:
        self.warnings = notes
        # Nobody but its author knows what a custom model does with rows that came in one call.
        self.batchable = (mlmodel.metadata or {}).get(BATCHABLE) is True
        self._model = model
        signature = Signature.from_mlmodel(mlmodel)
        self._columns_are_named = signature is None or all(spec.name is not None for spec in signature.columns)
        self._wants_list = mlmodel.is_signature_from_type_hint

    def predict(self, batch: Batch, params: Mapping[str, Any]) -> Answer:
        """The model's answer: a table, an array, or whatever JSON it gave."""
        try:
            prediction = self._model.predict(self._input(batch), params=dict(params) or None)
        except MlflowException as error:
            if error.error_code in _CALLERS_FAULT:
                raise BadInput(f"The model refuses the input: {error.message}") from error
            raise
        return to_answer(prediction)

    def _input(self, batch: Batch) -> Any:
        match batch.form:
            case Form.TENSOR:
                return _as_numpy_reads(batch.columns[""])
            case Form.TENSORS:
                return {name: _as_numpy_reads(array) for name, array in batch.columns.items()}
            case Form.TABLE if self._wants_list and len(batch.columns) == 1:
                # A model whose signature is its type hint, list[...], gets just that.
                return next(iter(batch.columns.values())).tolist()
            case Form.TABLE:
                frame = pd.DataFrame(batch.columns)
                if not self._columns_are_named:
                    frame.columns = pd.RangeIndex(len(frame.columns))
                return frame


def load(model_dir: Path, mlmodel: MLmodel, permit: CodePermit) -> PyfuncModel:
    """The model saved in *model_dir*.

    Raises:
        CodeNotAllowed: if *permit* doesn't let its code run.
        LibraryNotInstalled: naming the module that its code asked for and that isn't there.
        InvalidArtifact: if ``MLmodel`` holds a signature that can't be read.
    """
    names = ", ".join(sorted(name for name in mlmodel.flavors if name != FLAVOR)) or FLAVOR
    permit.require(f"A model of flavor {names!r}, loaded by mlflow.pyfunc,")
    try:
        with _leaving_no_bytecode(), warnings.catch_warnings(record=True):
            # As above; and versions we compare ourselves.
            model = mlflow.pyfunc.load_model(str(model_dir), suppress_warnings=True)
    except ModuleNotFoundError as error:
        raise LibraryNotInstalled(error.name or str(error)) from error
    except MlflowException as error:
        # A model from code, whose error MLflow wraps together with its path.
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise LibraryNotInstalled(error.__cause__.name or "?") from error
        raise
    return PyfuncModel(model, mlmodel, pin_warnings(model_dir))


def to_answer(prediction: Any) -> Answer:
    """*prediction* as arrays where it has that form without change, else as the JSON that MLflow's server makes."""
    match prediction:
        case pd.Series():
            return to_answer(prediction.to_frame())
        case pd.DataFrame():
            columns = {str(name): _column(prediction.iloc[:, place]) for place, name in enumerate(prediction.columns)}
            if len(columns) == len(prediction.columns) and all(map(_is_plain, columns.values())):
                return Batch(Form.TABLE, columns)
            return _json(prediction.to_dict(orient="records"))
        case np.ndarray() if prediction.ndim and _is_plain(array := _objects_for_text(prediction)):
            return Batch(Form.TENSOR, {"": array})
        case [first, *_] if type(first) in {bool, int, float, str} and {type(item) for item in prediction} == {
            type(first)
        }:
            array = _objects_for_text(np.array(prediction))
            return Batch(Form.TENSOR, {"": array}) if _is_plain(array) else _json(prediction)
        case _:
            return _json(prediction)


def _column(series: Any) -> np.ndarray:
    if isinstance(series.dtype, np.dtype):
        return np.asarray(series.to_numpy())
    # pandas' own types (strings, nullable integers, categories) as objects, with None for what is missing.
    return np.asarray(series.astype(object).where(series.notna(), None).to_numpy())


def _is_plain(array: np.ndarray) -> bool:
    if array.dtype.kind != "O":
        return array.dtype.kind in "fiubM"
    return all(item is None or type(item) in {str, bytes} for item in array.ravel())


def _objects_for_text(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind == "U" else array


def _as_numpy_reads(array: np.ndarray) -> np.ndarray:
    """Texts as numpy's own kind, which is what MLflow's server makes of lists and its signatures ask for."""
    if array.dtype.kind == "O" and array.size and all(type(item) is str for item in array.ravel()):
        return array.astype(np.str_)
    return array


def _json(value: Any) -> JsonAnswer:
    return JsonAnswer(msgspec.json.encode(value, enc_hook=_encode))


def _encode(value: Any) -> Any:
    match value:
        case np.ndarray():
            return value.tolist()
        case np.generic():
            return value.item()
        case pd.DataFrame():
            return value.to_dict(orient="records")
        case pd.Series():
            return value.tolist()
        case pd.Timestamp():
            return value.isoformat()
        case _ if value is pd.NaT:
            return None
        case _ if hasattr(value, "model_dump"):
            # A pydantic object, as the chat models of MLflow give.
            return value.model_dump()
        case _:
            raise TypeError(f"The model's answer holds a {type(value).__name__}, which has no form in JSON.")


@contextmanager
def _leaving_no_bytecode() -> Iterator[None]:
    """Keep Python from writing ``__pycache__`` beside a model's code: its folder is verified and stays as it is."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
