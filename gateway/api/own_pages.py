"""What a session's cookie isn't enough for: a proof that a page of ours made the request, and not one of others.

Browsers add a cookie to whatever a page makes them send. SameSite keeps most of it back, and Origin tells where it
comes from; the proof is worth something where a browser gets one of them wrong.
"""

import re
from collections.abc import Mapping

from litestar.types import HTTPScope

from gateway.access.cookies import SESSION, find_cookie, is_csrf_token
from tracking.errors import PermissionDenied

FORM = b"application/x-www-form-urlencoded"
"""The one type in which forms of ours are sent."""
_READS = {"GET", "HEAD", "OPTIONS"}
# No dots: nothing that leads elsewhere.
_OWN_FORMS = re.compile(r"/signin|/signout|/account/[\w/]+", re.ASCII)


class OriginMissing(PermissionDenied):
    def __init__(self) -> None:
        super().__init__("Only a page of this server may send this; its browser would have said so by Origin.")


class OriginWithoutHttps(PermissionDenied):
    """Anybody on the way may have made that page."""

    def __init__(self) -> None:
        super().__init__("A page that came without HTTPS may not send this.")


class CsrfTokenWrong(PermissionDenied):
    """The same words for one that is missing, made up, and of another session."""

    def __init__(self) -> None:
        super().__init__("This wasn't sent by a page of this session: open the page again, and repeat it there.")


def ensure_meant(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> None:
    """Look at a request that came with a session's cookie. Reading is free, since nothing changes by it.

    Forms of our pages bring their proof in a field. `gateway.web.forms.read_form`, by which alone their handlers get at
    it, looks at that.

    Raises:
        OriginMissing, OriginWithoutHttps, CsrfTokenWrong: if a page of others could have made it.
    """
    if scope["method"] in _READS:
        return
    ensure_own_page(scope, headers)
    if is_own_form(scope["method"], scope["path"]) and is_form(headers):
        return
    shown = headers.get(b"x-csrf-token", b"").decode("latin-1")
    if not is_csrf_token(shown, find_cookie(scope["headers"], SESSION) or ""):
        raise CsrfTokenWrong


def ensure_own_page(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> None:
    """Look at Origin; that it names this host, if it is there, was seen to before.

    Raises:
        OriginMissing: if it isn't there.
        OriginWithoutHttps: if it is this host by plain HTTP, while we are reached by HTTPS.
    """
    origin = headers.get(b"origin")
    if not origin:
        raise OriginMissing
    if scope["scheme"] == "https" and not origin.lower().startswith(b"https:"):
        raise OriginWithoutHttps


def is_own_form(method: str, path: str) -> bool:
    """Whether a form of our own pages may be sent there."""
    return method == "POST" and _OWN_FORMS.fullmatch(path) is not None


def is_form(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower() == FORM
