"""What a model's inputs and outputs are called, typed and shaped in the Open Inference Protocol.

Names are the signature's. Where it has none they are ``input-0`` and ``output-0``, which MLServer declares for MLflow
models; unlike there, the same names come with the answers.
"""

from typing import Any

import msgspec
import numpy as np

from gateway.api.open_inference.wire import BYTES, datatype_of
from loaders.columns import ColumnSpec, ColumnType
from loaders.signature import Signature, Specs
from loaders.tensors import TensorSpec

_INPUT, _OUTPUT = "input", "output"

# The content types are MLServer's words for what is in BYTES.
_DATATYPES: dict[ColumnType, tuple[str, str | None]] = {
    ColumnType.BOOLEAN: ("BOOL", None),
    ColumnType.INTEGER: ("INT32", None),
    ColumnType.LONG: ("INT64", None),
    ColumnType.FLOAT: ("FP32", None),
    ColumnType.DOUBLE: ("FP64", None),
    ColumnType.STRING: (BYTES, "str"),
    ColumnType.BINARY: (BYTES, "base64"),
    ColumnType.DATETIME: (BYTES, "datetime"),
    ColumnType.JSON: (BYTES, "pd_json"),
}


class TensorMetadata(msgspec.Struct, omit_defaults=True):
    """What is known of an input or output before it is sent; -1 where any length goes."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}


def output_name(signature: Signature | None) -> str:
    """What an answer of one tensor is called."""
    outputs = () if signature is None else signature.outputs
    return outputs[0].name or f"{_OUTPUT}-0" if len(outputs) == 1 else f"{_OUTPUT}-0"


def describe_inputs(signature: Signature | None) -> list[TensorMetadata]:
    """The inputs; none where the model's author left them open."""
    specs: Specs = () if signature is None else signature.columns or signature.tensors
    # A column may come as (rows, 1) too, which is what clients of this protocol are used to.
    return [_describe(spec, f"{_INPUT}-{place}", [-1, 1]) for place, spec in enumerate(specs)]


def describe_outputs(signature: Signature | None) -> list[TensorMetadata]:
    specs = () if signature is None else signature.outputs
    return [_describe(spec, f"{_OUTPUT}-{place}", [-1]) for place, spec in enumerate(specs)]


def _describe(spec: ColumnSpec | TensorSpec, name: str, column_shape: list[int]) -> TensorMetadata:
    if isinstance(spec, TensorSpec):
        return TensorMetadata(spec.name or name, datatype_of(np.dtype(spec.dtype)), list(spec.shape))
    datatype, content_type = _DATATYPES[spec.type]
    parameters = {} if content_type is None else {"content_type": content_type}
    return TensorMetadata(spec.name or name, datatype, column_shape, parameters)
