"""The cookies of browsers that have signed in, and the proof that a request was made by a page of ours.

Names that begin with ``__Host-`` are kept by browsers only as this host's own, for all paths, and over HTTPS (or to
this very machine, which they trust as much): no neighbour's host and no plain connection can plant one.
"""

import hashlib
import hmac
from collections.abc import Iterable

from gateway.access.credentials import Unauthenticated

SESSION = b"__Host-titlebout-session"
"""Who has signed in."""
FORM = b"__Host-titlebout-form"
"""By which a page's forms are known where no session is: before signing in, and behind a proxy that does it."""
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
_PURPOSE = b"titlebout csrf token"


class TooManyCookies(Unauthenticated):
    """No browser sends two of one ``__Host-`` name."""

    def __init__(self) -> None:
        super().__init__("There are two cookies of a session; which one is meant can't be known.")


def session_cookie(secret: str, life_s: int) -> str:
    """The value of ``Set-Cookie`` with which a browser has signed in.

    Strict: no request that another site's page caused carries it, not even a link's. So what leads back from an
    identity provider must answer with a page that goes on by itself, `gateway.web.pages.go_on`: the next request is
    ours then.
    """
    return f"{SESSION.decode()}={secret}; Max-Age={life_s}; {_ATTRIBUTES}"


def no_session_cookie() -> str:
    """The value of ``Set-Cookie`` that has a browser forget its session."""
    return f"{SESSION.decode()}=; Max-Age=0; {_ATTRIBUTES}"


def form_cookie(secret: str) -> str:
    """Kept until the browser is closed; worth nothing but beside a form that was made with it."""
    return f"{FORM.decode()}={secret}; {_ATTRIBUTES}"


def find_cookie(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of the cookie *name*; None if there is none.

    Raises:
        TooManyCookies: if there are two.
    """
    found: list[bytes] = []
    for header, value in headers:
        if header == b"cookie" and name in value:
            pairs = (pair.strip().partition(b"=") for pair in value.split(b";"))
            found += [held for key, _, held in pairs if key == name]
    if len(found) > 1:
        raise TooManyCookies
    return found[0].decode("latin-1") if found and found[0] else None


def csrf_token(secret: str) -> str:
    """What a page of ours shows that only it can know, besides the cookie with *secret*: nothing has to be kept."""
    return hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256).hex()


def is_csrf_token(shown: str, secret: str) -> bool:
    return hmac.compare_digest(shown.encode(), csrf_token(secret).encode())
