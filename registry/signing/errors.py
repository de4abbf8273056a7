"""What can be wrong with a signature, with a key, or with what was signed."""

from tracking.errors import ErrorCode, InvalidParameter, NotFound, ServingError


class InvalidSignature(InvalidParameter):
    """A signature that isn't one of ours, or isn't this version's."""


class UnusableKey(InvalidParameter):
    """A file that ought to hold a key."""

    def __init__(self, name: str, wrong: str) -> None:
        super().__init__(f"The key {name} can't be used: {wrong}.")


class NothingToSign(ServingError):
    """A version whose files the server has no list of."""

    code = ErrorCode.INVALID_STATE

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"The server has no list of the files of version {version} of {name!r}, which came to the store by other "
            "means, or haven't come yet. Say where they are on this machine, by --files."
        )


class NotSigned(ServingError):
    """A version that no trusted key vouches for; the sentence says why not, and what to do."""

    code = ErrorCode.PERMISSION_DENIED


class SignatureNotFound(NotFound):
    def __init__(self, name: str, version: int, key_id: str) -> None:
        super().__init__(f"Version {version} of {name!r} has no signature by the key {key_id}")
