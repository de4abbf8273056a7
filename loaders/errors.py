"""What can be wrong with a model's files, or with what is sent to the model."""

from typing import Any

from tracking.errors import ErrorCode, InvalidParameter, PermissionDenied, ServingError, TooLarge

_SHOWN_CHARACTERS_MAX = 60


class BadInput(InvalidParameter):
    """Rows or parameters that the model's signature, or the model itself, can't take."""


class DecodedTooLarge(TooLarge):
    """Rows that take more memory than their body did."""

    def __init__(self, needed_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"The input takes at least {needed_bytes:,} bytes once it is decoded; up to {bytes_max:,} are accepted. "
            "Send fewer rows at a time."
        )


class InvalidArtifact(InvalidParameter):
    """A file of a model that isn't what it ought to be."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"The model's file {name!r} can't be used: {expected}.")


class CodeNotAllowed(PermissionDenied):
    """A model whose format runs code while it loads, where the setting doesn't let it."""


class CodeNotSigned(CodeNotAllowed):
    """The same where a trusted key's signature would be enough, which may come at any time."""


class FlavorNotInstalled(ServingError):
    """A model whose library isn't in this installation."""

    code = ErrorCode.INVALID_STATE

    def __init__(self, flavor: str, distribution: str, module: str) -> None:
        super().__init__(
            f"A model of flavor {flavor!r} needs {module!r}, which isn't installed: install {distribution}."
        )


class LibraryNotInstalled(ServingError):
    """A module that a model's own code imports and that isn't in this installation."""

    code = ErrorCode.INVALID_STATE

    def __init__(self, module: str) -> None:
        super().__init__(f"The model's code needs the Python module {module!r}, which isn't installed here.")


class ModelTooLarge(TooLarge):
    """A model that the local cache has no room for."""

    def __init__(self, needed_bytes: int, free_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"The model's files take {needed_bytes:,} bytes; the cache may hold {bytes_max:,} bytes, "
            f"of which {free_bytes:,} are free or could be freed."
        )


class CacheFull(ServingError):
    """A disk that has no room for a model's files."""

    code = ErrorCode.RESOURCE_EXHAUSTED
    retry_after_s = 30


def shown(value: Any) -> str:
    """*value* as a person would name it in a sentence: short, typed, and never a whole payload."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            cut = value if len(value) <= _SHOWN_CHARACTERS_MAX else value[:_SHOWN_CHARACTERS_MAX] + "…"
            return f"the string {cut!r}"
        case int():
            # An integer of many digits is costly to print, and Python refuses beyond 4300.
            return f"the number {value}" if value.bit_length() < 200 else "an integer of more than 60 digits"
        case float():
            return f"the number {value}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"
