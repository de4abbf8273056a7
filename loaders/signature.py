"""A model's signature: read from ``MLmodel``, and enforced on what a caller sent.

HTTP workers import this, so it stands on numpy and msgspec alone: no pandas, no scikit-learn, no torch.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import msgspec
import numpy as np

from loaders.base import Batch, DoubleRow, Rows, joined_rows
from loaders.columns import ColumnSpec, ColumnSpecs, ColumnType, enforce_columns, find_double_row, names_of_doubles
from loaders.errors import InvalidArtifact
from loaders.mlmodel import MLMODEL_FILE, MLmodel
from loaders.params import ParamSpec, ParamSpecs, enforce_params
from loaders.payload import Arrays, Data, Nested, Table
from loaders.tensors import TensorSpec, TensorSpecs, enforce_tensors, inferred_batch

__all__ = ["Arrays", "Data", "Nested", "Signature", "Table", "enforce"]

Specs = tuple[ColumnSpec | TensorSpec, ...]


class Signature(msgspec.Struct, frozen=True, dict=True):
    """What a model takes and gives; an empty side is one that the model's author left open."""

    columns: ColumnSpecs = ()
    tensors: TensorSpecs = ()
    """Inputs are either columns or tensors, never both."""
    outputs: Specs = ()
    params: ParamSpecs = ()

    @classmethod
    def from_mlmodel(cls, mlmodel: MLmodel) -> Self | None:
        """The signature in *mlmodel*, or None if there is none.

        Raises:
            InvalidArtifact: if it is there and can't be read.
        """
        written = mlmodel.signature
        if not written:
            return None
        inputs = () if _is_open(written.get("inputs")) else _read_specs(written.get("inputs"), "inputs")
        return cls(
            columns=tuple(spec for spec in inputs if isinstance(spec, ColumnSpec)),
            tensors=tuple(spec for spec in inputs if isinstance(spec, TensorSpec)),
            outputs=_read_specs(written.get("outputs"), "outputs"),
            params=tuple(_read_param(param) for param in _read_list(written.get("params"), "params")),
        )

    @cached_property
    def names_of_doubles(self) -> tuple[str, ...]:
        """The columns' names, if all are doubles."""
        return names_of_doubles(self.columns)


def enforce(
    signature: Signature | None, data: Data, params: Mapping[str, Any] | None = None
) -> tuple[Batch, dict[str, Any]]:
    """*data* as the batch that the model takes, and *params* completed by their defaults.

    Raises:
        BadInput: naming the field, what was expected there and what came.
    """
    rows, accepted = enforce_rows(signature, data, params)
    return (joined_rows([rows]) if isinstance(rows, DoubleRow) else rows), accepted


def enforce_rows(
    signature: Signature | None, data: Data, params: Mapping[str, Any] | None = None
) -> tuple[Rows, dict[str, Any]]:
    """As `enforce`, but one row of doubles isn't made an array yet: it may have company by then."""
    if signature is None:
        return inferred_batch(data), {}
    accepted = enforce_params(signature.params, params) if signature.params else {}
    if signature.names_of_doubles:
        row = find_double_row(signature.names_of_doubles, data)
        if row is not None:
            return row, accepted
    if signature.columns:
        return enforce_columns(signature.columns, data), accepted
    if signature.tensors:
        return enforce_tensors(signature.tensors, data), accepted
    return inferred_batch(data), accepted


def takes_alike(one: Signature | None, other: Signature | None) -> bool:
    """Whether what `enforce_rows` made for the one is what it would make for the other."""
    if one is None or other is None:
        return one is other
    return (one.columns, one.tensors, one.params) == (other.columns, other.tensors, other.params)


def _is_open(text: Any) -> bool:
    """Whether the inputs are the one spec that MLflow writes where it could infer none: anything, without a name."""
    return [spec.get("type") for spec in _read_list(text, "inputs") if "name" not in spec] == ["any"]


def _read_list(text: Any, side: str) -> list[dict[str, Any]]:
    if text is None:
        return []
    try:
        items = msgspec.json.decode(text, type=list[dict[str, Any]] | None)
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        raise InvalidArtifact(MLMODEL_FILE, f"expected signature.{side} to be a JSON list of specs") from error
    return items or []


def _read_specs(text: Any, side: str) -> Specs:
    specs = [_read_spec(spec, side) for spec in _read_list(text, side)]
    kinds = {type(spec) for spec in specs}
    names = [spec.name for spec in specs]
    if len(kinds) > 1:
        raise InvalidArtifact(MLMODEL_FILE, f"expected signature.{side} to be all columns or all tensors")
    if None in names and (any(names) or (kinds == {TensorSpec} and len(specs) > 1)):
        raise InvalidArtifact(MLMODEL_FILE, f"expected signature.{side} to name all specs or none")
    return tuple(specs)


def _read_spec(spec: dict[str, Any], side: str) -> ColumnSpec | TensorSpec:
    name = spec.get("name")
    name = None if name is None else str(name)
    if spec.get("type") != "tensor":
        return ColumnSpec(name, _column_type(spec.get("type"), side), required=spec.get("required", True) is not False)
    match spec.get("tensor-spec"):
        case {"dtype": str(dtype), "shape": [*shape]} if shape and all(type(axis) is int for axis in shape):
            try:
                np.dtype(dtype)
            except TypeError as error:
                raise InvalidArtifact(MLMODEL_FILE, f"expected a numpy dtype in signature.{side}") from error
            return TensorSpec(name, dtype, tuple(shape))
    raise InvalidArtifact(MLMODEL_FILE, f"expected tensor-spec with dtype and shape in signature.{side}")


def _column_type(name: Any, side: str) -> ColumnType:
    if name in {"array", "object", "map", "any", "sparkml_vector"}:
        return ColumnType.JSON
    try:
        return ColumnType(name)
    except ValueError as error:
        known = ", ".join(type_ for type_ in ColumnType if type_ is not ColumnType.JSON)
        raise InvalidArtifact(MLMODEL_FILE, f"expected one of {known} as type in signature.{side}") from error


def _read_param(param: dict[str, Any]) -> ParamSpec:
    name = param.get("name")
    if not isinstance(name, str):
        raise InvalidArtifact(MLMODEL_FILE, "expected a name in each of signature.params")
    type_ = _column_type(param.get("type"), "params")
    return ParamSpec(name, type_, param.get("default"), is_list=bool(param.get("shape")))
