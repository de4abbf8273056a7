"""The one family of errors, and the codes that the wire gives them.

Every package raises subclasses of `ServingError`, named for what is so. Only `gateway.errors` knows which HTTP
status a code becomes.
"""

from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """Codes as MLflow's client knows them (mlflow/exceptions.py and protos/databricks.proto)."""

    BAD_REQUEST = "BAD_REQUEST"
    INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RESOURCE_ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
    RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
    ENDPOINT_NOT_FOUND = "ENDPOINT_NOT_FOUND"
    RESOURCE_CONFLICT = "RESOURCE_CONFLICT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    INVALID_STATE = "INVALID_STATE"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    TEMPORARILY_UNAVAILABLE = "TEMPORARILY_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


class ServingError(Exception):
    """Something a caller should be told, in one sentence that says what was wrong and what was expected."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL_ERROR
    retry_after_s: int | None = None
    """Seconds after which trying again makes sense; only for the codes that say "later"."""

    @property
    def message(self) -> str:
        return str(self)

    @property
    def reason(self) -> str:
        """For who runs the program, never for a caller: the first line of what a driver or the system said."""
        cause = self.__cause__
        if cause is None:
            return self.message
        # SQLAlchemy wraps the driver's words in a statement and a link; its `orig` has them plain.
        return str(getattr(cause, "orig", cause)).split("\n")[0]


class InvalidParameter(ServingError):
    """A value that the caller must change."""

    code = ErrorCode.INVALID_PARAMETER_VALUE


class BadRequest(ServingError):
    """A body that can't be read at all."""

    code = ErrorCode.BAD_REQUEST


class NotFound(ServingError):
    """A thing that was named and isn't there."""

    code = ErrorCode.RESOURCE_DOES_NOT_EXIST


class AlreadyExists(ServingError):
    """A name that is taken."""

    code = ErrorCode.RESOURCE_ALREADY_EXISTS


class Conflict(ServingError):
    """A change that somebody else's state rules out; trying again as it is won't help."""

    code = ErrorCode.RESOURCE_CONFLICT


class PermissionDenied(ServingError):
    """Something this caller may not do."""

    code = ErrorCode.PERMISSION_DENIED


class TooLarge(ServingError):
    """A body or a value over its bound, which the message names."""

    code = ErrorCode.REQUEST_TOO_LARGE


class Exhausted(ServingError):
    """A queue that is full: later is fine, now isn't."""

    code = ErrorCode.RESOURCE_EXHAUSTED
    retry_after_s = 1


class TemporarilyUnavailable(ServingError):
    """A part that is down or not ready yet."""

    code = ErrorCode.TEMPORARILY_UNAVAILABLE
    retry_after_s = 1


class NotImplementedHere(ServingError):
    """A call of MLflow's that Titlebout knows and doesn't answer."""

    code = ErrorCode.NOT_IMPLEMENTED
