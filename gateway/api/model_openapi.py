"""One served model's OpenAPI 3.1 document, from its signature."""

from typing import Any
from urllib.parse import quote

import numpy as np

from gateway.api.example_requests import ExampleRequest, example_requests
from gateway.api.scoring.media_types import MediaType
from gateway.scoring.served_models import ServedModel
from loaders.columns import ColumnSpec, ColumnType
from loaders.params import ParamSpec
from loaders.signature import Signature, Specs
from loaders.tensors import TensorSpec

Schema = dict[str, Any]

_TYPES: dict[ColumnType, Schema] = {
    ColumnType.BOOLEAN: {"type": "boolean"},
    ColumnType.INTEGER: {"type": "integer", "format": "int32"},
    ColumnType.LONG: {"type": "integer", "format": "int64"},
    # Null is a missing number, which JSON has no other word for.
    ColumnType.FLOAT: {"type": ["number", "null"], "format": "float"},
    ColumnType.DOUBLE: {"type": ["number", "null"], "format": "double"},
    ColumnType.STRING: {"type": ["string", "null"]},
    ColumnType.BINARY: {"type": ["string", "null"], "contentEncoding": "base64"},
    ColumnType.DATETIME: {"type": ["string", "null"], "description": "ISO 8601"},
    ColumnType.JSON: {},
}
_KINDS: dict[str, Schema] = {
    "b": {"type": "boolean"},
    "i": {"type": "integer"},
    "u": {"type": "integer", "minimum": 0},
    "f": {"type": ["number", "null"]},
    "U": {"type": ["string", "null"]},
    "S": {"type": ["string", "null"], "contentEncoding": "base64"},
    "M": {"type": ["string", "null"], "description": "ISO 8601"},
}
_ERROR: Schema = {
    "type": "object",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error_code", "message"],
}
_SHORT_ERROR: Schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_FAULTS = {
    "400": "The input isn't what the model takes; the message names the field.",
    "404": "There is no such endpoint, or the version isn't in memory.",
    "413": "The input is too large.",
    "415": "The content type isn't known.",
    "429": "Too many requests are waiting.",
    "500": "The model's own code failed.",
    "503": "The version is being brought back into memory.",
    "504": "The deadline has passed.",
}


def openapi_document(served: ServedModel) -> dict[str, Any]:
    """What can be asked of *served*, in all protocols but SageMaker's, which shares MLflow's path."""
    examples = {request.path: request for request in reversed(example_requests(served))}
    name = quote(served.endpoint, safe="")
    operations = {
        f"/endpoints/{name}/invocations": _invocation("mlflow", "MLflow's protocol, and SageMaker's."),
        f"/v2/models/{name}/infer": _operation("open_inference", "Open Inference Protocol v2.", "TensorRequest"),
        f"/v1/models/{name}:predict": _operation("v1", "V1, as TensorFlow Serving and KServe speak it.", "V1Request"),
        f"/serving-endpoints/{name}/invocations": _invocation("databricks", "Databricks' protocol."),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": served.endpoint, "version": str(served.version), "description": _description(served)},
        "paths": {
            path: {"parameters": _parameters(served), "post": _with_example(operation, examples.get(path))}
            for path, operation in operations.items()
        },
        "components": {"schemas": _schemas(served.signature)},
    }


def _description(served: ServedModel) -> str:
    arms = ", ".join(f"{arm} is version {version}" for arm, version in sorted(served.arms.items()))
    described = f"Inputs and outputs are those of version {served.version}."
    return f"Model {served.model}, flavor {served.flavor}: {arms}. {described}"


def _parameters(served: ServedModel) -> list[dict[str, Any]]:
    def header(name: str, description: str, schema: Schema) -> dict[str, Any]:
        return {"name": name, "in": "header", "description": description, "schema": schema}

    return [
        header("X-Titlebout-Arm", "Forces an arm.", {"type": "string", "enum": sorted(served.arms)}),
        header("X-Titlebout-Unit", "What is assigned to an arm: a user, a session.", {"type": "string"}),
        header(
            "X-Titlebout-Deadline-Ms",
            "How long an answer is of use.",
            {"type": "integer", "minimum": 0, "maximum": 86_400_000},
        ),
    ]


def _invocation(operation_id: str, description: str) -> dict[str, Any]:
    operation = _operation(operation_id, description, "Request", "Answer", "Error")
    content = operation["requestBody"]["content"]
    content[MediaType.CSV.preferred] = {"schema": {"type": "string"}}
    binary = (MediaType.ARROW, MediaType.PARQUET, MediaType.NPY)
    content.update({kind.preferred: {} for kind in binary})
    answers = operation["responses"]["200"]["content"]
    answers.update({kind.preferred: {} for kind in (MediaType.ARROW, MediaType.NPY)})
    return operation


def _operation(
    operation_id: str, description: str, request: str, answer: str | None = None, error: str = "ShortError"
) -> dict[str, Any]:
    answered = {"type": "object"} if answer is None else _ref(answer)
    who = {name: {"schema": {"type": "string"}} for name in ("Model", "Version", "Arm", "Epoch", "Prediction-Id")}
    return {
        "operationId": operation_id,
        "description": description,
        "requestBody": {"required": True, "content": {MediaType.JSON.preferred: {"schema": _ref(request)}}},
        "responses": {
            "200": {
                "description": "The predictions, and in headers who gave them.",
                "headers": {f"X-Titlebout-{name}": said for name, said in who.items()},
                "content": {MediaType.JSON.preferred: {"schema": answered}},
            },
            **{
                status: {"description": said, "content": {MediaType.JSON.preferred: {"schema": _ref(error)}}}
                for status, said in _FAULTS.items()
            },
        },
    }


def _with_example(operation: dict[str, Any], request: ExampleRequest | None) -> dict[str, Any]:
    if request is not None:
        operation["requestBody"]["content"][MediaType.JSON.preferred]["example"] = request.body
    return operation


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


# --- schemas


def _schemas(signature: Signature | None) -> dict[str, Schema]:
    columns = () if signature is None else signature.columns
    tensors = () if signature is None else signature.tensors
    params = () if signature is None else signature.params
    named = bool(columns) and columns[0].name is not None
    inputs: dict[str, Schema] = {"instances": {"type": "array"}, "inputs": {}}
    if named:
        inputs["instances"]["items"] = {"anyOf": [_ref("Row"), _ref("Values")]}
        inputs["inputs"] = {"anyOf": [_ref("Columns"), {"type": "array", "items": _ref("Values")}]}
    elif tensors:
        inputs = {"instances": {"type": "array"}, "inputs": _tensors(tensors)}
    frames: dict[str, Schema] = {
        "dataframe_split": {
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": {"type": "string"}},
                "data": {"type": "array", "items": _ref("Values") if named else {"type": "array"}},
            },
            "required": ["data"],
        },
        "dataframe_records": {"type": "array", "items": _ref("Row") if named else {"type": "object"}},
    }
    schemas = {
        "Request": _one_of({**inputs, **frames}, params),
        "V1Request": _one_of(inputs, params),
        "TensorRequest": _tensor_request(),
        "Answer": {
            "type": "object",
            "properties": {"predictions": _answers(() if signature is None else signature.outputs)},
            "required": ["predictions"],
        },
        "Error": _ERROR,
        "ShortError": _SHORT_ERROR,
    }
    return {**schemas, **_rows(columns)} if named else schemas


def _rows(columns: tuple[ColumnSpec, ...]) -> dict[str, Schema]:
    """A row by name, the same by place, and many rows by column."""
    by_name = {str(spec.name): _TYPES[spec.type] for spec in columns}
    required = [str(spec.name) for spec in columns if spec.required]
    # In a column's list, types are one level down.
    lists = {name: {"type": "array", "items": schema} for name, schema in by_name.items()}
    return {
        "Row": {"type": "object", "properties": by_name, "required": required},
        "Values": {"type": "array", "prefixItems": list(by_name.values()), "minItems": len(required)},
        "Columns": {"type": "object", "properties": lists, "required": required},
    }


def _one_of(forms: dict[str, Schema], params: tuple[ParamSpec, ...]) -> Schema:
    """An object with exactly one of *forms*, and maybe with params."""
    either = [{"required": [key]} for key in forms]
    properties = {**forms, "params": {"type": "object", "properties": {p.name: _param(p) for p in params}}}
    return {"type": "object", "properties": properties, "oneOf": either}


def _param(spec: ParamSpec) -> Schema:
    schema = _TYPES[spec.type]
    default = {} if spec.default is None else {"default": spec.default}
    return {"type": "array", "items": schema, **default} if spec.is_list else {**schema, **default}


def _tensors(specs: tuple[TensorSpec, ...]) -> Schema:
    if specs[0].name is None:
        return _tensor(specs[0])
    by_name = {str(spec.name): _tensor(spec) for spec in specs}
    return {"type": "object", "properties": by_name, "required": list(by_name)}


def _tensor(spec: TensorSpec) -> Schema:
    schema = _KINDS.get(np.dtype(spec.dtype).kind, {})
    for length in reversed(spec.shape):
        bounds = {} if length == -1 else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema, **bounds}
    return schema


def _answers(specs: Specs) -> Schema:
    if not specs:
        return {}
    columns = [spec for spec in specs if isinstance(spec, ColumnSpec)]
    if not columns:
        return _tensors(tuple(spec for spec in specs if isinstance(spec, TensorSpec)))
    if len(columns) == 1:
        # A column of its own is a list of values, unless the model gives a table.
        return {"type": "array"}
    records = {str(spec.name): _TYPES[spec.type] for spec in columns if spec.name is not None}
    return {"type": "array", "items": {"type": "object", "properties": records} if records else {}}


def _tensor_request() -> Schema:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        "required": ["name", "shape", "datatype", "data"],
    }
    properties = {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": tensor},
        "outputs": {"type": "array", "items": {"type": "object"}},
    }
    return {"type": "object", "properties": properties, "required": ["inputs"]}
