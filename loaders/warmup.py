"""A row to try a model with before it serves: the one saved beside it, else one made from its signature."""

from pathlib import Path
from typing import Any

import msgspec

from loaders.base import Batch
from loaders.columns import ColumnType
from loaders.errors import BadInput, InvalidArtifact
from loaders.mlmodel import MLmodel, path_inside, read_bounded
from loaders.payload import read_document
from loaders.signature import Signature, enforce

_EXAMPLE_BYTES_MAX = 16 * 1024 * 1024
_READABLE_BYTES_MAX = 16 * 1024
_SERVING_EXAMPLE_FILE = "serving_input_example.json"
"""Written by MLflow as the body of a scoring request, whatever form the example had."""

_ROW: dict[ColumnType, Any] = {
    ColumnType.BOOLEAN: False,
    ColumnType.INTEGER: 0,
    ColumnType.LONG: 0,
    ColumnType.FLOAT: 0.0,
    ColumnType.DOUBLE: 0.0,
    ColumnType.STRING: "text",
    ColumnType.BINARY: "",
    ColumnType.DATETIME: "2000-01-01T00:00:00",
}


def warm_up_batch(model_dir: Path, mlmodel: MLmodel, signature: Signature | None) -> Batch | None:
    """Rows that the model ought to answer; None where neither an example nor a signature says what it takes."""
    try:
        return _saved_example(model_dir, mlmodel, signature)
    except (InvalidArtifact, BadInput):
        # An example is a help, not a promise: models are saved with ones that their own signature refuses.
        return None if signature is None else row_from_signature(signature)


def find_saved_body(model_dir: Path, mlmodel: MLmodel) -> str:
    """The example as MLflow saved it, the body of a request; empty where there is none that people would read."""
    try:
        content = _saved_body(model_dir, mlmodel)
        msgspec.json.decode(content)
        return content.decode() if len(content) <= _READABLE_BYTES_MAX else ""
    except (InvalidArtifact, ValueError, RecursionError):
        return ""


def row_from_signature(signature: Signature) -> Batch | None:
    """One row of zeros and short texts; None where the inputs are open, or of types that no row can be guessed for."""
    body = body_from_signature(signature)
    return None if body is None else enforce(signature, read_document(body)[0])[0]


def body_from_signature(signature: Signature) -> dict[str, Any] | None:
    """The same row as the body of a request."""
    if signature.columns:
        specs = [spec for spec in signature.columns if spec.required or spec.type in _ROW]
        if any(spec.type not in _ROW for spec in specs):
            return None
        row = [_ROW[spec.type] for spec in specs]
        names = {} if specs[0].name is None else {"columns": [str(spec.name) for spec in specs]}
        return {"dataframe_split": {**names, "data": [row]}}
    if signature.tensors:
        by_name = {str(spec.name): _zeros(spec.dtype, spec.shape) for spec in signature.tensors}
        unnamed = signature.tensors[0].name is None
        return {"inputs": next(iter(by_name.values())) if unnamed else by_name}
    return None


def _saved_example(model_dir: Path, mlmodel: MLmodel, signature: Signature | None) -> Batch:
    try:
        document = msgspec.json.decode(_saved_body(model_dir, mlmodel))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArtifact(_SERVING_EXAMPLE_FILE, "expected JSON") from error
    data, _ = read_document(document)
    return enforce(signature, data)[0]


def _saved_body(model_dir: Path, mlmodel: MLmodel) -> bytes:
    info = mlmodel.saved_input_example_info or {}
    path = path_inside(model_dir, info.get("serving_input_path", _SERVING_EXAMPLE_FILE), "serving_input_path")
    return read_bounded(path, _EXAMPLE_BYTES_MAX)


def _zeros(dtype: str, shape: tuple[int, ...]) -> Any:
    """Nested lists of zeros, one long where the shape leaves the length open."""
    value: Any = "text" if dtype in {"str", "object"} else False if dtype == "bool" else 0
    for length in reversed(shape):
        value = [value] * (1 if length == -1 else length)
    return value
