"""What no client should send, made from the OpenAPI document: a new route is tried by being in it."""

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

JSON = "application/json"

NUL = "a\0b"
SURROGATE = "a\ud800b"
OVER_64_BITS = [2**63, -(2**63) - 1, 10**30, "9223372036854775808", "9" * 5_000]
NO_DOUBLES = ["1e999", "-1e999", "1_0", "nan", "0x1"]
NOT_SENT = object()
DEEP = 10_000
LONG = 10 * 1024**2

_OF_EACH_TYPE: dict[str, Any] = {
    "string": "text", "integer": 7, "number": 0.5, "boolean": True, "array": [], "object": {}, "null": None,
}  # fmt: skip


_BAD_PARAMETERS = {
    "has a NUL": "a%00b",
    "isn't UTF-8": "a%ffb",
    "has half a surrogate pair": "a%ed%a0%80b",
    "is over 64 bits": "9223372036854775808",
    "is endless digits": "9" * 5_000,
}


# What MLflow's protocol has outside of /api/ and takes parameters.
_AT_THE_ROOT = {"/get-artifact", "/model-versions/get-artifact"}


class Route(NamedTuple):
    method: str
    path: str
    operation: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.path}"


class Case(NamedTuple):
    """A body that must be refused, and what is wrong with it."""

    fault: str
    body: bytes


class Document:
    """An OpenAPI document, and *known*: by the name of a parameter or field, a value that is accepted.

    A name may be that of one route's field alone: ``/api/…/create#name``. What is `NOT_SENT` is left out.
    """

    def __init__(self, document: dict[str, Any], known: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]
        self._known = known
        self.routes = [
            Route(method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            # The twins for MLflow's pages are the same handlers.
            if path.startswith("/api/") or path in _AT_THE_ROOT
        ]

    def body_schema(self, route: Route) -> dict[str, Any] | None:
        content = route.operation.get("requestBody", {}).get("content", {})
        return self._resolve(content[JSON]["schema"]) if JSON in content else None

    def url(self, route: Route) -> str:
        """Its path, with what exists in the braces."""
        return self._url(route, {})

    def _url(self, route: Route, changed: dict[str, str]) -> str:
        path, query = route.path, []
        for parameter in route.operation.get("parameters", []):
            name = parameter["name"]
            value = changed.get(name) or self._sent(self._value(name, parameter["schema"], route))
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", value)
            elif value:
                query.append(f"{name}={value}")
        return path + ("?" + "&".join(query) if query else "")

    @staticmethod
    def _sent(value: Any) -> str:
        if isinstance(value, list):
            value = value[0] if value else ""
        return "" if value in {None, NOT_SENT} else quote(str(value), safe="")

    def bad_urls(self, route: Route) -> Iterator[tuple[str, str]]:
        """What is wrong, and the URL in which it is, for each parameter in path and query."""
        for parameter in route.operation.get("parameters", []):
            name = parameter["name"]
            if self._known.get(name) is NOT_SENT:
                continue
            for fault, value in _BAD_PARAMETERS.items():
                yield f"{name} {fault}", self._url(route, {name: value})

    def body(self, route: Route) -> Any:
        """One in which every field has a value of its type."""
        schema = self.body_schema(route)
        return None if schema is None else self._value("", schema, route)

    def cases(self, route: Route) -> Iterator[Case]:
        """Each is wrong in one way, and well otherwise."""
        body, schema = self.body(route), self.body_schema(route)
        if schema is None:
            return
        yield from _unreadable(body)
        for place, field in self._fields(schema, body):
            name = ".".join(str(part) for part in place)
            for fault, value in self._faults(field):
                yield Case(f"{name} {fault}", _encode(_replaced(body, place, value)))

    def _faults(self, field: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        types = {one.get("type", "any") for one in self._alternatives(field)}
        if "any" in types:
            return
        taken = types | ({"integer"} if "number" in types else set())
        for type_, value in _OF_EACH_TYPE.items():
            if type_ not in taken:
                yield f"is of type {type_}", value
        if types & {"integer"}:
            yield from ((f"is {str(value)[:30]}", value) for value in OVER_64_BITS)
        if "number" in types:
            yield from ((f"is {value}", value) for value in NO_DOUBLES)
        if "string" in types:
            yield "has a NUL", NUL
            yield "has half a surrogate pair", SURROGATE

    def _fields(self, schema: dict[str, Any], body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
        """Each field that *body* has, at any depth, with its schema."""
        if place:
            yield place, schema
        for one in self._alternatives(schema):
            for name, inner in one.get("properties", {}).items():
                if name in body:
                    yield from self._fields(self._resolve(inner), body[name], (*place, name))
            if one.get("type") == "array" and body:
                yield from self._fields(self._resolve(one["items"]), body[0], (*place, 0))

    def _value(self, name: str, schema: dict[str, Any], route: Route) -> Any:
        for known in (f"{route.path}#{name}", name):
            if known in self._known:
                return self._known[known]
        one = self._alternatives(schema)[0]
        match one.get("type"):
            case "object":
                properties = one.get("properties", {})
                values = {key: self._value(key, self._resolve(inner), route) for key, inner in properties.items()}
                return {key: value for key, value in values.items() if value is not NOT_SENT}
            case "array":
                return [self._value(name, self._resolve(one["items"]), route)]
            case type_:
                return _OF_EACH_TYPE.get(type_, "text")

    def _alternatives(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        return [self._resolve(one) for one in schema.get("oneOf", schema.get("anyOf", [schema]))]

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        return self._schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def _unreadable(body: Any) -> Iterator[Case]:
    for value in ([body], "text", 7, None, True):
        yield Case(f"is {json.dumps(value)[:20]}", _encode(value))
    text = _encode(body)
    yield Case("is empty", b"")
    yield Case("ends early", text[:-1])
    yield Case("goes on", text + b"}")
    yield Case("isn't UTF-8", text[:-1] + b', "more": "\xff"}')
    yield Case("is UTF-16", text.decode().encode("utf-16"))
    yield Case("nests arrays", text[:-1] + b', "more": ' + b"[" * DEEP + b"]" * DEEP + b"}")
    yield Case("nests objects", text[:-1] + b', "more": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}")
    yield Case("has a long text", text[:-1] + b', "more": "' + b"x" * LONG + b'"}')
    yield Case("has a number beyond doubles", text[:-1] + b', "more": 1e400}')
    for key, value in body.items():
        again = json.dumps(key).encode() + b": " + _encode(value)
        yield Case(f"has {key} twice", text[:-1] + b", " + again + b"}")
    yield Case("has a key twice within", text[:-1] + rb', "more": {"a:": 1, "\u0061\u003a": 2}}')


def _replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(body)
    inner = changed
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return changed


def _encode(value: Any) -> bytes:
    # Escaped, because half a surrogate pair can't be written otherwise.
    return json.dumps(value).encode("ascii")
