"""The OpenAPI document as it is given out: Litestar's, with what it can't know or gets wrong put right."""

from typing import Any

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

_ERROR = "Error"
_ERROR_SCHEMA = {
    "type": "object",
    "title": _ERROR,
    "description": "What every error is answered with.",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error_code", "message"],
}
_JSON_ERROR = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_ERROR}"}}}


class DocumentPlugin(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, _corrected(openapi_schema))


def _corrected(document: dict[str, Any]) -> dict[str, Any]:
    paths = {
        path: {method: _corrected_operation(operation) for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    components = document["components"]
    schemas = {**components["schemas"], _ERROR: _ERROR_SCHEMA}
    return {**document, "paths": paths, "components": {**components, "schemas": schemas}}


def _corrected_operation(operation: dict[str, Any]) -> dict[str, Any]:
    # The summary is derived from the name of the wrapper that runs a handler in a thread, and says nothing.
    changed = {key: value for key, value in operation.items() if key != "summary"}
    changed["responses"] = _with_our_errors(operation["responses"])
    if "parameters" in operation:
        changed["parameters"] = [_corrected_parameter(parameter) for parameter in operation["parameters"]]
    return changed


def _with_our_errors(responses: dict[str, Any]) -> dict[str, Any]:
    """*responses*, with the one shape of errors that `gateway.errors` gives them."""
    # The 400 is Litestar's own ValidationException, which no caller here ever sees.
    changed = {
        status: response if status < "4" else {**response, "content": _JSON_ERROR}
        for status, response in responses.items()
        if status != "400"
    }
    changed["4XX"] = {"description": "The request, or what it names, isn't as it must be.", "content": _JSON_ERROR}
    return changed


def _corrected_parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """A path of several segments is text; Litestar calls it a URI, which nobody could send."""
    if parameter["in"] != "path" or parameter["schema"].get("format") != "uri":
        return parameter
    return {**parameter, "schema": {"type": "string"}}
