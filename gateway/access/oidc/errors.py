"""Why somebody isn't let in by an issuer, in words for the page that says it."""

from tracking.errors import Exhausted, PermissionDenied, TemporarilyUnavailable


class SignInRefused(PermissionDenied):
    """What came back can't be believed, or is of somebody who may not come in."""


class AttemptUnknown(SignInRefused):
    """The same words for one that is over, of another browser, and made up."""

    def __init__(self) -> None:
        super().__init__("This browser hasn't begun to sign in here, or too long ago. Please sign in again.")


class IssuerRefuses(SignInRefused):
    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"The identity provider refuses: {error}{f' ({description})' if description else ''}.")


class TokenRefused(SignInRefused):
    def __init__(self, why: str) -> None:
        super().__init__(f"What the identity provider sent can't be accepted: {why}.")


class IssuerAway(TemporarilyUnavailable):
    """Nobody can sign in this way for now; nothing else needs the issuer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The identity provider can't be asked: {why}. Try again, or sign in by a token.")


class TooManySignIns(Exhausted):
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__("Too many people are signing in just now.")
