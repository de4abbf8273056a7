"""What a served model is and how to ask it: a page for people, and the OpenAPI document for programs."""

import asyncio
import shlex
from typing import Any

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from gateway.access.gatekeeper import Gatekeeper
from gateway.api.example_requests import ExampleRequest, example_requests
from gateway.api.model_openapi import openapi_document
from gateway.api.scoring.unserved import explain_unserved
from gateway.auth import needs
from gateway.scoring.inference import EndpointNotServed, Target
from gateway.scoring.served_models import ServedModel, ServedModels
from gateway.web.errors import PAGE_ERRORS
from gateway.web.load_test_shown import LoadTestShown, find_load_test
from gateway.web.pages import AnyRequest, Pages, page
from loaders.columns import ColumnSpec
from loaders.signature import Specs
from loaders.tensors import TensorSpec
from tracking.access.permissions import Permission
from tracking.database import Database

_NOT_YET = {503: ResponseSpec(None, description="The version is being brought into memory.")}


class Field(msgspec.Struct, frozen=True):
    """An input, output or param as the page's tables have it."""

    name: str
    type: str
    note: str = ""


def render_model(
    pages: Pages, served: ServedModel, base_url: str, *, takes_key: bool, load_test: LoadTestShown | None = None
) -> str:
    signature = served.signature
    return pages.render(
        "model.html",
        served=served,
        arms=sorted(served.arms.items(), key=lambda arm: (arm[0] != "champion", arm[0])),
        inputs=fields_of(() if signature is None else signature.columns or signature.tensors),
        outputs=fields_of(() if signature is None else signature.outputs),
        params=[] if signature is None else [Field(p.name, p.type, f"default {p.default!r}") for p in signature.params],
        takes_key=takes_key,
        load_test=load_test,
        requests=[
            (request.protocol, curl_line(request, base_url, takes_key=takes_key))
            for request in example_requests(served)
        ],
    )


def fields_of(specs: Specs) -> list[Field]:
    return [_field(spec) for spec in specs]


def curl_line(request: ExampleRequest, base_url: str, *, takes_key: bool) -> str:
    """What sends *request*, to be pasted into a shell; a key comes from the shell's own variable."""
    headers = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in request.headers.items()]
    if takes_key:
        headers.append('-H "Authorization: Bearer $TITLEBOUT_KEY"')
    body = shlex.quote(msgspec.json.encode(request.body).decode())
    return " \\\n  ".join([f"curl {shlex.quote(base_url.rstrip('/') + request.path)}", *headers, f"-d {body}"])


def _field(spec: ColumnSpec | TensorSpec) -> Field:
    if isinstance(spec, TensorSpec):
        shape = " × ".join("any" if length == -1 else str(length) for length in spec.shape)
        return Field(spec.name or "", f"{spec.dtype} tensor", f"shape {shape}")
    return Field(spec.name or "", spec.type, "" if spec.required else "optional")


@get("/endpoints/{name:str}/openapi.json", opt=needs(Permission.OBSERVE), responses=_NOT_YET)
async def get_model_openapi(
    name: FromPath[str], served_models: NamedDependency[ServedModels], database: NamedDependency[Database]
) -> dict[str, Any]:
    """The OpenAPI document of one endpoint's model; ``NAME@ALIAS`` is an arm's."""
    return openapi_document(await _described(name, served_models, database))


@get(
    "/endpoints/{name:str}/docs",
    media_type=MediaType.HTML,
    opt=needs(Permission.OBSERVE),
    responses=_NOT_YET,
    exception_handlers=PAGE_ERRORS,
)
async def show_model(
    request: AnyRequest,
    name: FromPath[str],
    served_models: NamedDependency[ServedModels],
    database: NamedDependency[Database],
    pages: NamedDependency[Pages],
    gate: NamedDependency[Gatekeeper],
) -> Response[str]:
    """The same for people, with requests to paste."""
    served = await _described(name, served_models, database)
    load_test = await asyncio.to_thread(find_load_test, database, served.model, served.version)
    return page(render_model(pages, served, str(request.base_url), takes_key=not gate.is_open, load_test=load_test))


async def _described(name: str, served_models: ServedModels, database: Database) -> ServedModel:
    try:
        return served_models.describe(Target(name))
    except EndpointNotServed as error:
        raise await asyncio.to_thread(explain_unserved, database, error.name) from error


handlers = [get_model_openapi, show_model]
