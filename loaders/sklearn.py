"""scikit-learn flavor: an estimator in a skops file, which runs no code, or in a pickle, which does."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from loaders.acceleration.choice import ESTIMATOR, Choice, choose
from loaders.acceleration.wish import AccelerationWish
from loaders.base import Answer, Batch, Columns, Form, JsonAnswer
from loaders.code_policy import CodePermit
from loaders.errors import BadInput, CodeNotAllowed, InvalidArtifact
from loaders.estimators import UnsoundTree, check_trees, parts, takes_matrix, takes_texts
from loaders.mlmodel import MLmodel, path_inside
from loaders.model_code import make_importable
from loaders.requirements import pin_warnings
from loaders.signature import Signature
from loaders.skops_archive import find_odd_record
from loaders.skops_types import trusted_types
from loaders.warmup import warm_up_batch

FLAVOR = "sklearn"
_EXAMPLE_ROWS_MAX = 1000
_PREDICT_FUNCTIONS = {"predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "score"}
_UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, ImportError, AttributeError, LookupError,
    TypeError, ValueError, RecursionError,
)  # fmt: skip


class SklearnModel:
    """One fitted estimator. `predict` may run in several threads, since estimators don't change after fitting."""

    flavor = FLAVOR

    def __init__(self, estimator: Any, predict_fn: str, notes: tuple[str, ...]) -> None:
        self.warnings = notes
        # What `score` says is said of all rows together.
        self.batchable = predict_fn != "score"
        names = getattr(estimator, "feature_names_in_", None)
        self._names: list[str] | None = None if names is None else [str(name) for name in names]
        self._takes_texts = takes_texts(estimator)
        self._takes_matrix = takes_matrix(estimator)
        if self._takes_matrix:
            _forget_names(estimator)
        self._estimator = estimator
        self._predict_fn = predict_fn
        self._use(Choice(getattr(estimator, predict_fn), ESTIMATOR, ""))

    def accelerate(self, wish: AccelerationWish | None, example: Batch | None) -> None:
        """Answer by a faster equivalent if there is one that holds on *example* and on rows like the model's own."""
        if not self._takes_matrix or self._takes_texts:
            self._use(Choice(self._predict, ESTIMATOR, "it looks at more than a matrix of numbers"))
            return
        self._use(choose(self._estimator, self._predict_fn, self._matrix_of(example), wish))

    def _use(self, choice: Choice) -> None:
        self._predict, self.predictor, self.predictor_reason = choice.predict, choice.predictor, choice.reason

    def _matrix_of(self, example: Batch | None) -> np.ndarray | None:
        """The rows of *example* that are whole, as doubles; None if it isn't made of numbers."""
        try:
            rows = None if example is None else np.asarray(self._rows(example), dtype=np.float64)
        except (BadInput, TypeError, ValueError):
            # The example is a help. That the model can't use it is for the warm-up to find.
            return None
        if rows is None or rows.ndim != 2 or rows.shape[1] != getattr(self._estimator, "n_features_in_", None):
            return None
        whole: np.ndarray = rows[np.isfinite(rows).all(axis=1)]
        return whole[:_EXAMPLE_ROWS_MAX] if len(whole) else None

    def predict(self, batch: Batch, params: Mapping[str, Any]) -> Answer:  # noqa: ARG002  (estimators take none)
        """The estimator's answer: an array (rows, ...), or a table where it gives a data frame."""
        rows = self._rows(batch)
        try:
            predictions = self._predict(rows)
        except ValueError as error:
            # How scikit-learn says that values don't do: NaN where it takes none, text where it wants numbers.
            raise BadInput(f"The model refuses the input: {str(error).splitlines()[0]}") from error
        return _answer(predictions)

    def _rows(self, batch: Batch) -> Any:
        if self._takes_texts:
            return _texts(batch)
        if batch.form is Form.TENSOR:
            # A copy, as compiled parts of scikit-learn want arrays that could be written to.
            matrix = batch.columns[""] if batch.columns[""].flags.writeable else batch.columns[""].copy()
            return matrix if self._takes_matrix or self._names is None else self._frame_of(matrix)
        columns = self._ordered(batch.columns)
        if self._takes_matrix and all(column.dtype.kind in "fiub" for column in columns.values()):
            return np.column_stack(list(columns.values()))
        import pandas as pd  # noqa: PLC0415  (a quarter of a second and 40 MB that most models don't need)

        return pd.DataFrame(columns)

    def _ordered(self, columns: Columns) -> Columns:
        if any(column.ndim != 1 for column in columns.values()):
            raise BadInput("The model takes columns of single values, got tensors of more axes.")
        if self._names is None:
            return columns
        missing = [name for name in self._names if name not in columns]
        if not missing:
            return {name: columns[name] for name in self._names}
        if len(missing) == len(self._names) == len(columns):
            # Columns that were sent without names are the model's own, in its order.
            return dict(zip(self._names, columns.values(), strict=True))
        raise BadInput(f"Model is missing inputs {missing[:20]}.")

    def _frame_of(self, matrix: np.ndarray) -> Any:
        import pandas as pd  # noqa: PLC0415  (as above)

        if matrix.ndim != 2 or matrix.shape[1] != len(self._names or ()):
            raise BadInput(f"The model takes rows of {len(self._names or ())} values, got shape {matrix.shape}.")
        return pd.DataFrame(matrix, columns=self._names)


def load(
    model_dir: Path,
    mlmodel: MLmodel,
    permit: CodePermit,
    *,
    acceleration: AccelerationWish | None = None,
) -> SklearnModel:
    """The estimator saved in *model_dir*, behind a faster equivalent if *acceleration* asks for one and it holds.

    Raises:
        CodeNotAllowed: if it is a pickle and *permit* doesn't let it load, or names types that aren't on our list.
        InvalidArtifact: if its file can't be read as what ``MLmodel`` calls it.
    """
    flavor = mlmodel.flavors[FLAVOR]
    path = path_inside(model_dir, flavor.get("pickled_model"), "sklearn.pickled_model")
    format_ = flavor.get("serialization_format", "pickle")
    if format_ != "skops":
        permit.require(f"The model's file {path.name!r} ({format_})")
        make_importable(model_dir, flavor)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = _read(path, format_)
    if format_ == "skops":
        # A pickle that may run needs no forged tree to do harm, and its own classes may keep trees as they like.
        _check_sound(path, estimator)
    predict_fn = mlmodel.flavors.get("python_function", {}).get("predict_fn", "predict")
    if predict_fn not in _PREDICT_FUNCTIONS or not hasattr(estimator, predict_fn):
        raise InvalidArtifact(path.name, f"expected an estimator with the function {predict_fn!r}")
    # scikit-learn warns of another version once for each tree of a forest.
    notes = dict.fromkeys([*pin_warnings(model_dir, "scikit-learn"), *(_note(warning) for warning in caught)])
    model = SklearnModel(estimator, predict_fn, tuple(notes))
    example = warm_up_batch(model_dir, mlmodel, Signature.from_mlmodel(mlmodel)) if acceleration else None
    model.accelerate(acceleration, example)
    return model


def _check_sound(path: Path, estimator: Any) -> None:
    try:
        check_trees(estimator)
    except UnsoundTree as error:
        raise InvalidArtifact(path.name, "expected trees whose nodes lie within their arrays") from error


def _read(path: Path, format_: Any) -> Any:
    try:
        match format_:
            case "skops":
                if odd := find_odd_record(path):
                    raise InvalidArtifact(path.name, f"expected what skops writes, but {odd}")
                return skops.io.load(path, trusted=trusted_types())
            case "pickle" | "cloudpickle" | "joblib":
                # joblib reads its own files and plain pickles; cloudpickle's are plain to whoever has cloudpickle.
                return joblib.load(path)
    except UntrustedTypesFoundException as error:
        # Its first line names them; what follows is advice to trust them.
        types = str(error).splitlines()[0].partition(": ")[2]
        raise CodeNotAllowed(
            f"The model's file {path.name!r} names types that Titlebout doesn't trust: {types}"
        ) from error
    except _UNREADABLE as error:
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        raise InvalidArtifact(
            path.name, f"expected an estimator in {format_} format, reading it gave {reason}"
        ) from error
    raise InvalidArtifact("MLmodel", "expected sklearn.serialization_format to be skops, cloudpickle or pickle")


def _texts(batch: Batch) -> np.ndarray:
    """The one column of texts that a vectorizer wants; of a frame it would read the names of the columns."""
    column = next(iter(batch.columns.values()), np.array([]))
    if len(batch.columns) != 1 or column.size != len(column):
        raise BadInput(f"The model takes one text in each row, got {len(batch.columns)} columns.")
    texts = column.reshape(len(column))
    if not all(type(text) is str for text in texts):
        raise BadInput("The model takes one text in each row.")
    return texts


def _forget_names(estimator: Any) -> None:
    """Take the names of columns out of *estimator*, whose rows come as matrices in the right order.

    scikit-learn would otherwise warn at each call that a matrix has no names.
    """
    for part in parts(estimator):
        getattr(part, "__dict__", {}).pop("feature_names_in_", None)


def _answer(predictions: Any) -> Answer:
    if hasattr(predictions, "toarray"):
        predictions = predictions.toarray()
    if hasattr(predictions, "columns") and hasattr(predictions, "to_numpy"):
        return Batch(Form.TABLE, {str(name): _array(predictions[name].to_numpy()) for name in predictions.columns})
    if isinstance(predictions, list) and any(isinstance(item, np.ndarray) for item in predictions):
        # One array of probabilities for each output of a classifier with several.
        return JsonAnswer(msgspec.json.encode([np.asarray(item).tolist() for item in predictions]))
    return Batch(Form.TENSOR, {"": _array(np.asarray(predictions))})


def _array(values: np.ndarray) -> np.ndarray:
    return values.astype(object) if values.dtype.kind in "US" else np.atleast_1d(values)


def _note(warning: warnings.WarningMessage) -> str:
    return str(warning.message).splitlines()[0]
