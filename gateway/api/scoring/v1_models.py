"""V1, beside predictions: which models there are, which of their versions answer, and what they take.

One body serves both kinds of clients: TensorFlow Serving's read ``model_version_status``, KServe's read ``ready``.
"""

import asyncio
import re
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath
from litestar.types import ExceptionHandlersMap

from gateway.api.open_inference.models import NoSuchPath
from gateway.api.raw_paths import raw_path_below
from gateway.api.scoring.unserved import explain_unserved
from gateway.api.scoring.walk import version_number
from gateway.auth import needs
from gateway.errors import EXCEPTION_HANDLERS, answer_error
from gateway.scoring.inference import EndpointNotServed, Target
from gateway.scoring.served_models import ServedModel, ServedModels
from loaders.columns import ColumnSpec, ColumnType
from loaders.signature import Specs
from loaders.tensors import TensorSpec
from tracking.access.permissions import Permission
from tracking.database import Database

_MODELS = "/v1/models/"
_OF_A_MODEL = re.compile(
    r"(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+)|/labels/(?P<label>[^/]+))?(?P<metadata>/metadata)?/?"
)
_NOT_YET = {503: ResponseSpec(None, description="The version is being brought into memory.")}

# tensorflow/core/framework/types.proto, as far as there are such inputs.
_DTYPES = {
    ColumnType.BOOLEAN: "DT_BOOL",
    ColumnType.INTEGER: "DT_INT32",
    ColumnType.LONG: "DT_INT64",
    ColumnType.FLOAT: "DT_FLOAT",
    ColumnType.DOUBLE: "DT_DOUBLE",
}
_NUMPY_DTYPES = {"float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE", "bool": "DT_BOOL"}


class Refusal(msgspec.Struct):
    error: str


class ModelNames(msgspec.Struct):
    models: list[str]


class VersionStatus(msgspec.Struct):
    version: str
    state: str
    status: dict[str, str]


class ModelStatus(msgspec.Struct):
    name: str
    ready: bool
    model_version_status: list[VersionStatus]
    """The versions in memory that were asked for; all of them by a name alone."""


class Metadata(msgspec.Struct):
    """GetModelMetadataResponse of TensorFlow Serving."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[Refusal]:
    answer = answer_error(request, error)
    return Response(Refusal(answer.content["message"]), status_code=answer.status_code, headers=answer.headers)


# Each kind by itself: one for all would be asked last, after those of the application.
_IN_PROTOCOL: ExceptionHandlersMap = dict.fromkeys(EXCEPTION_HANDLERS, _refuse)


@get("/v1/models", sync_to_thread=False, opt=needs(Permission.OBSERVE), exception_handlers=_IN_PROTOCOL)
def list_models(served_models: NamedDependency[ServedModels]) -> ModelNames:
    """The endpoints that this worker answers for."""
    return ModelNames(served_models.names())


@get(f"{_MODELS}{{path:path}}", opt=needs(Permission.OBSERVE), exception_handlers=_IN_PROTOCOL, responses=_NOT_YET)
async def look_at_model(
    request: Request[Any, Any, Any],
    path: FromPath[str],  # noqa: ARG001  (names the parameter; it is read from the raw path)
    served_models: NamedDependency[ServedModels],
    database: NamedDependency[Database],
) -> Response[ModelStatus | Metadata]:
    """The status of ``NAME``, ``NAME/versions/V`` or ``NAME/labels/ARM``; its signature with ``/metadata``."""
    match = _OF_A_MODEL.fullmatch(raw_path_below(request, _MODELS).decode("latin-1"))
    if match is None:
        raise NoSuchPath(request.url.path)
    arm = None if match["label"] is None else unquote(match["label"])
    target = Target(unquote(match["name"]), arm, version_number(match["version"]))
    try:
        served_models.ensure_ready(target)
        served = served_models.describe(target)
    except EndpointNotServed as error:
        raise await asyncio.to_thread(explain_unserved, database, error.name) from error
    if match["metadata"]:
        return Response(_metadata(served))
    return Response(_status(served, target))


def _status(served: ServedModel, target: Target) -> ModelStatus:
    named = target.version is not None or target.arm is not None
    versions = [served.version] if named else sorted(served.in_memory, reverse=True)
    fine = {"error_code": "OK", "error_message": ""}
    statuses = [VersionStatus(str(version), "AVAILABLE", fine) for version in versions]
    return ModelStatus(served.endpoint, ready=True, model_version_status=statuses)


def _metadata(served: ServedModel) -> Metadata:
    signature = served.signature
    inputs: Specs = () if signature is None else signature.columns or signature.tensors
    outputs: Specs = () if signature is None else signature.outputs
    default = {
        "inputs": _tensor_infos(inputs, "inputs"),
        "outputs": _tensor_infos(outputs, "outputs"),
        "method_name": "tensorflow/serving/predict",
    }
    return Metadata(
        {"name": served.endpoint, "signature_name": "", "version": str(served.version)},
        {"signature_def": {"signature_def": {"serving_default": default}}},
    )


def _tensor_infos(specs: Specs, unnamed: str) -> dict[str, Any]:
    names = [spec.name or (unnamed if len(specs) == 1 else f"{unnamed}_{place}") for place, spec in enumerate(specs)]
    return {name: _tensor_info(name, spec) for name, spec in zip(names, specs, strict=True)}


def _tensor_info(name: str, spec: ColumnSpec | TensorSpec) -> dict[str, Any]:
    shape = spec.shape if isinstance(spec, TensorSpec) else (-1,)
    dimensions = [{"size": str(length), "name": ""} for length in shape]
    return {"dtype": _dtype(spec), "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}


def _dtype(spec: ColumnSpec | TensorSpec) -> str:
    if isinstance(spec, ColumnSpec):
        return _DTYPES.get(spec.type, "DT_STRING")
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iu":
        return f"DT_{dtype.name.upper()}"
    return _NUMPY_DTYPES.get(dtype.name, "DT_STRING")


handlers = [list_models, look_at_model]
