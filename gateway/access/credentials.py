"""What a caller shows, read from the headers of a request. Pure: whether it is worth anything is the gatekeeper's."""

import base64
import binascii
from collections.abc import Iterable

import msgspec

from tracking.access.secrets import SecretKind
from tracking.errors import ErrorCode, ServingError

AUTHORIZATION = b"authorization"
KEY = b"x-titlebout-key"
_LENGTH_MAX = 4096
# A secret in a URL is in every log on the way, and may be anybody's by now.
_IN_QUERIES = tuple(kind.encode() for kind in SecretKind)


class Unauthenticated(ServingError):
    """Who calls isn't known: nothing was shown, or nothing that counts."""

    code = ErrorCode.UNAUTHENTICATED


class NoCredentials(Unauthenticated):
    def __init__(self) -> None:
        super().__init__(
            "Sign in first: with a token as `Authorization: Bearer TOKEN` (MLFLOW_TRACKING_TOKEN for MLflow's client), "
            "or with a user's name and password (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)."
        )


class MalformedCredentials(Unauthenticated):
    def __init__(self, what: str) -> None:
        super().__init__(f"The Authorization header can't be used: {what}.")


class SecretInUrl(Unauthenticated):
    def __init__(self) -> None:
        super().__init__(
            "A token in the URL isn't accepted, and has been seen by every log on its way here: revoke it, and send "
            "another one as `Authorization: Bearer TOKEN`."
        )


class Secret(msgspec.Struct, frozen=True):
    """A token or a scoring key."""

    text: str


class Password(msgspec.Struct, frozen=True):
    user: str
    text: str


Credentials = Secret | Password


def read_credentials(headers: Iterable[tuple[bytes, bytes]], query: bytes) -> Credentials | None:
    """What *headers* show; None if nothing.

    Raises:
        MalformedCredentials: for two of them, an unknown scheme, or what can't be read.
        SecretInUrl: if *query* has one of our secrets in it.
    """
    if query and any(kind in query for kind in _IN_QUERIES):
        raise SecretInUrl
    shown = keyed = None
    for name, value in headers:
        if name == AUTHORIZATION:
            if shown is not None:
                raise MalformedCredentials("there are two of them")
            shown = value
        elif name == KEY:
            if keyed is not None:
                raise MalformedCredentials("there are two X-Titlebout-Key")
            keyed = value
    if keyed is not None:
        # For clients that sign their requests with Authorization, for somebody else.
        return Secret(_text(keyed))
    return None if shown is None else _read(_text(shown))


def _text(value: bytes) -> str:
    if len(value) > _LENGTH_MAX:
        raise MalformedCredentials(f"it is longer than {_LENGTH_MAX} bytes")
    return value.decode("latin-1").strip()


def _read(text: str) -> Credentials:
    scheme, _, rest = text.partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer" if rest and " " not in rest:
            return Secret(rest)
        case "basic" if rest:
            return _basic(rest)
        case "bearer" | "basic":
            raise MalformedCredentials("it holds no credentials, or more than one")
        case _:
            raise MalformedCredentials("expected Bearer or Basic")


def _basic(encoded: str) -> Credentials:
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise MalformedCredentials("after Basic, base64 of UTF-8 is expected") from None
    if not colon:
        raise MalformedCredentials("after Basic, base64 of USER:PASSWORD is expected")
    if password.startswith(SecretKind.TOKEN):
        # For clients that know users and passwords only.
        return Secret(password)
    return Password(user, password)
