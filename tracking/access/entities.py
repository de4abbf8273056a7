"""What `users`, `tokens` and `keys` give out: without hashes, and so fit to be shown."""

import msgspec

from tracking.access.grants import Grant


class User(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    grants: tuple[Grant, ...] = ()
    has_password: bool = False
    oidc_subject: str | None = None
    """Who this is to an OpenID Connect issuer: its URL and the subject."""
    oidc_awaited: bool = False
    """Whether whoever the issuer calls by this name first is this user."""
    is_disabled: bool = False
    created_by: str
    created_ms: int


class Token(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    user: str
    name: str
    beginning: str
    """The first signs of the token, by which its owner tells it from others."""
    is_session: bool = False
    scope: tuple[Grant, ...] | None = None
    """None is all that its user may."""
    created_ms: int
    expires_ms: int
    last_used_ms: int | None = None


class ScoringKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    beginning: str
    endpoints: tuple[str, ...]
    """Names; one that ends in ``*`` stands for all that begin so."""
    may_force: bool = False
    """Whether it may say which arm answers."""
    may_pin: bool = False
    """Whether it may say which version answers."""
    rate: float | None = None
    """Requests a second, for each replica; None is no limit."""
    author: str
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
