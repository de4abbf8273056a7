"""Media types of inputs and answers: what a body is, and what its sender wants back."""

from enum import Enum

from gateway.api.scoring.walk import JSON_TYPE, Headers
from tracking.errors import ErrorCode, ServingError


class MediaType(Enum):
    """A format, by its registered name first and then by those that are in use beside it."""

    JSON = (JSON_TYPE,)
    CSV = ("text/csv",)
    PARQUET = ("application/vnd.apache.parquet", "application/x-parquet", "application/parquet")
    ARROW = ("application/vnd.apache.arrow.stream", "application/x-arrow", "application/arrow")
    NPY = ("application/x-npy", "application/npy", "application/x-numpy")

    @property
    def preferred(self) -> str:
        name: str = self.value[0]
        return name


_BY_NAME = {name: kind for kind in MediaType for name in kind.value}
_ANSWERS = frozenset({MediaType.JSON, MediaType.ARROW, MediaType.NPY})


class UnsupportedMediaType(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


def content_type(headers: Headers) -> tuple[MediaType, dict[str, str]]:
    """The type of the body and the parameters that came with it.

    Raises:
        UnsupportedMediaType: for a type, charset or parameter that isn't known.
    """
    value = headers.get(b"content-type", b"")
    if value == b"application/json":
        return MediaType.JSON, {}
    name, options = _parsed(value)
    kind = _BY_NAME.get(name)
    if kind is None:
        known = ", ".join(kind.preferred for kind in MediaType)
        raise UnsupportedMediaType(f"Content-Type {name or '(none)'!r} is not accepted here; expected one of {known}.")
    return kind, options


def accepted(headers: Headers) -> MediaType:
    """The type of the answer that Accept asks for: the first one that there is; JSON where it asks for none of them."""
    value = headers.get(b"accept", b"*/*")
    if value in {b"*/*", b"application/json"}:
        return MediaType.JSON
    for part in value.decode("latin-1").split(","):
        kind = _BY_NAME.get(part.split(";", 1)[0].strip().lower())
        if kind in _ANSWERS:
            return kind
    return MediaType.JSON


def _parsed(value: bytes) -> tuple[str, dict[str, str]]:
    name, *parts = value.decode("latin-1").split(";")
    options = {}
    for part in parts:
        key, _, option = part.partition("=")
        options[key.strip().lower()] = option.strip().strip('"').lower()
    charset = options.pop("charset", "utf-8")
    if charset not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType(f"Charset {charset!r} is not accepted here; expected utf-8.")
    unknown = options.keys() - {"header"}
    if unknown:
        raise UnsupportedMediaType(f"Content-Type parameters {sorted(unknown)} are not known here.")
    return name.strip().lower(), options
