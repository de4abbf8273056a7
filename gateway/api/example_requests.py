"""Requests to try a model with, one for each protocol: of the example that was saved with it, else of its signature."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from gateway.api.open_inference.names import TensorMetadata, describe_inputs
from gateway.api.open_inference.wire import datatype_of
from gateway.scoring.served_models import ServedModel
from loaders.columns import ColumnType
from loaders.errors import BadInput
from loaders.payload import Data, Nested, Table, read_document
from loaders.signature import Signature
from loaders.tensors import flattened
from loaders.warmup import body_from_signature
from registry.entities import CHAMPION

Body = dict[str, Any]


class ExampleRequest(msgspec.Struct, frozen=True):
    """A POST that the model answers."""

    protocol: str
    """Its name for people."""
    path: str
    body: Body
    more_headers: Mapping[str, str] = {}
    """Besides the content type, which is JSON's."""

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", **self.more_headers}


def example_requests(served: ServedModel) -> list[ExampleRequest]:
    """None where neither an example nor the signature says what the model takes."""
    body = example_body(served)
    if body is None:
        return []
    name = quote(served.endpoint, safe="")
    variant = {"X-Amzn-SageMaker-Target-Variant": CHAMPION}
    requests = [
        ExampleRequest("MLflow", f"/endpoints/{name}/invocations", body),
        ExampleRequest("V1: TensorFlow Serving, KServe", f"/v1/models/{name}:predict", _v1_body(body)),
        ExampleRequest("SageMaker", f"/endpoints/{name}/invocations", body, variant),
        ExampleRequest("Databricks", f"/serving-endpoints/{name}/invocations", body),
    ]
    tensors = _open_inference_body(served.signature, body)
    if tensors is not None:
        requests.insert(1, ExampleRequest("Open Inference Protocol v2", f"/v2/models/{name}/infer", tensors))
    return requests


def example_body(served: ServedModel) -> Body | None:
    """The body of MLflow's protocol."""
    if served.example:
        saved = msgspec.json.decode(served.example)
        try:
            read_document(saved)
        except BadInput:
            # Saved for another kind of server, as chat models' are.
            return None
        return saved  # type: ignore[no-any-return]  # an object, or it would have been refused
    return None if served.signature is None else body_from_signature(served.signature)


def _v1_body(body: Body) -> Body:
    data, params = read_document(body)
    others = {} if params is None else {"params": params}
    if isinstance(data, Table) and data.names is not None:
        return {"inputs": _columns(data), **others}
    if isinstance(data, Table):
        return {"instances": [list(row) for row in zip(*data.columns, strict=True)], **others}
    value = data.value if isinstance(data, Nested) else None
    return {"instances" if isinstance(value, list) else "inputs": value, **others}


def _open_inference_body(signature: Signature | None, body: Body) -> Body | None:
    """None for inputs that are no tensors."""
    if signature is not None and any(spec.type is ColumnType.JSON for spec in signature.columns):
        return None
    data, params = read_document(body)
    known = {tensor.name: tensor for tensor in describe_inputs(signature)}
    by_name = _values_by_name(data, unnamed=next(iter(known), "input-0"))
    try:
        tensors = [
            _tensor(name, values, known.get(name)) for name, values in by_name.items() if not known or name in known
        ]
    except BadInput:
        # Lists of several lengths, or objects.
        return None
    if not tensors:
        return None
    return {"inputs": tensors, "parameters": params} if params else {"inputs": tensors}


def _tensor(name: str, values: Any, known: TensorMetadata | None) -> Body:
    shape, leaves = flattened(name, values)
    if any(isinstance(leaf, dict) for leaf in leaves):
        raise BadInput(f"Input {name!r} holds objects.")
    datatype = datatype_of(np.array(leaves).dtype) if known is None else known.datatype
    tensor = {"name": name, "shape": list(shape), "datatype": datatype, "data": list(leaves)}
    return {**tensor, "parameters": known.parameters} if known is not None and known.parameters else tensor


def _values_by_name(data: Data, *, unnamed: str) -> dict[str, Any]:
    match data:
        case Table():
            return _columns(data)
        case Nested(value=dict() as by_name):
            return by_name
        case Nested(value=value):
            return {unnamed: value}
        case _:
            return {}


def _columns(table: Table) -> dict[str, Any]:
    names = table.names or [f"input-{place}" for place in range(len(table.columns))]
    return {name: list(column) for name, column in zip(names, table.columns, strict=True)}
