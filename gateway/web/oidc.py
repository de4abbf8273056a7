"""Signing in by an OpenID Connect issuer: to the issuer, and back with a code, which ends in a session as any other.

Nothing is kept here of who is on the way: see `gateway.access.oidc.attempt`. So it doesn't matter which worker of which
replica somebody comes back to.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.status_codes import HTTP_403_FORBIDDEN

from gateway.access.cookies import find_cookie, session_cookie
from gateway.access.credentials import Unauthenticated
from gateway.access.gatekeeper import Gatekeeper
from gateway.access.oidc.attempt import LIFE_S, Attempt
from gateway.access.oidc.errors import AttemptUnknown, SignInRefused
from gateway.access.openness import is_loopback
from gateway.access.throttle import Throttle
from gateway.auth import needs
from gateway.errors import answer_error, headers_of, status_of
from gateway.settings import Settings
from gateway.web.errors import PAGE_ERRORS
from gateway.web.local_paths import local_path
from gateway.web.pages import AnyRequest, Pages, lead_to, page
from gateway.web.signin import HOME, SignInLink
from tracking.access import sessions, subjects
from tracking.access.grants import Grant
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import ServingError

if TYPE_CHECKING:
    from gateway.access.oidc.issuer import Issuer

_log = logging.getLogger(__name__)

_BEGIN = "/signin/oidc"
_BACK = "/signin/oidc/callback"
# Lax, and not Strict as a session's: it is the issuer's page that leads back here.
_ATTEMPT = "__Host-titlebout-oidc"
_ATTEMPT_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"
_HOUR_S = 3_600
_PAUSE_MAX_S = 300.0

Clock = Callable[[], float]


class OidcSignIn:
    """The way in by the issuer of *settings*, if they name one."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._issuer = _open_issuer(settings, clock) if settings.oidc_issuer else None
        self.tries = Throttle(_PAUSE_MAX_S)
        """Those that failed, by where they came from."""

    @property
    def links(self) -> Collection[SignInLink]:
        """For the page where people sign in."""
        return (SignInLink(self._settings.oidc_name, _BEGIN),) if self._settings.oidc_issuer else ()

    @property
    def issuer(self) -> "Issuer":
        """The issuer.

        Raises:
            NotFoundException: if there is none.
        """
        if self._issuer is None:
            raise NotFoundException
        return self._issuer

    def subject_key(self, subject: str) -> str:
        return subjects.subject_key(self._settings.oidc_issuer, subject)

    async def close(self) -> None:
        if self._issuer is not None:
            await self._issuer.close()


def _open_issuer(settings: Settings, clock: Clock) -> "Issuer":
    # An extra, and 20 MB. At the start, since at the first sign-in predictions would wait 0.2 s for it.
    from gateway.access.oidc.issuer import Issuer  # noqa: PLC0415

    return Issuer(settings, clock=clock)


@get(
    _BEGIN,
    opt=needs(Permission.PUBLIC),
    media_type=MediaType.HTML,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
)
async def begin_sign_in(
    request: AnyRequest, oidc_sign_in: NamedDependency[OidcSignIn], clock: NamedDependency[Clock]
) -> Response[str]:
    """Lead a browser to the issuer, to come back within ten minutes."""
    attempt = Attempt.begin(local_path(request.query_params.get("next"), HOME), clock())
    url = await oidc_sign_in.issuer.authorization_url(attempt, _redirect_uri(request))
    return lead_to(url, cookie=f"{_ATTEMPT}={attempt.cookie}; Max-Age={LIFE_S}; {_ATTEMPT_ATTRIBUTES}")


@get(
    _BACK,
    opt=needs(Permission.PUBLIC),
    media_type=MediaType.HTML,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
)
async def end_sign_in(
    request: AnyRequest,
    oidc_sign_in: NamedDependency[OidcSignIn],
    gate: NamedDependency[Gatekeeper],
    pages: NamedDependency[Pages],
    settings: NamedDependency[Settings],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Response[str]:
    """Begin a session for whoever the issuer says has come back, if this is the browser that went there."""
    issuer, now_s, attempt = oidc_sign_in.issuer, clock(), None
    client = request.scope["client"]
    source = gate.source_of(client[0] if client else "", request.scope["headers"])
    oidc_sign_in.tries.check(source, now_s)
    life_s = settings.session_hours * _HOUR_S
    try:
        answer = _answer_of(request)
        attempt = _attempt_of(request, answer, now_s)
        person = await issuer.identify(attempt, answer, _redirect_uri(request))
        user, secret = await asyncio.to_thread(
            _begin_session,
            database,
            oidc_sign_in.subject_key(person.subject),
            person.name,
            grants=gate.default_grants,
            life_ms=life_s * 1000,
            now_ms=int(now_s * 1000),
        )
    except ServingError as error:
        if isinstance(error, SignInRefused | Unauthenticated):
            oidc_sign_in.tries.failed(source, now_s)
        refused = _refused(request, pages, error)
        # What was an answer to nothing leaves alone what this browser has begun, which may still come back.
        return refused if attempt is None else _without_attempt(refused)
    oidc_sign_in.tries.succeeded(source)
    _log.info("signed_in", extra={"user": user})
    return _without_attempt(pages.go_on(attempt.next, cookie=session_cookie(secret, life_s)))


def _begin_session(
    database: Database, subject: str, name: str, *, grants: Collection[Grant], life_ms: int, now_ms: int
) -> tuple[str, str]:
    """Whose session it is by now, and its secret."""
    with database.writing() as session:
        user = subjects.identify_subject(session, subject, name, grants=grants, now_ms=now_ms)
        return user.name, sessions.begin_session(session, user.name, life_ms=life_ms, now_ms=now_ms).secret


def _answer_of(request: AnyRequest) -> Mapping[str, str]:
    """What the issuer gave the browser to bring; nothing of it twice (RFC 6749, 3.1)."""
    brought = list(request.query_params.multi_items())
    answer = dict(brought)
    if len(answer) != len(brought):
        raise AttemptUnknown
    return answer


def _attempt_of(request: AnyRequest, answer: Mapping[str, str], now_s: float) -> Attempt:
    """The attempt that this browser began, and that *answer* is to.

    Raises:
        AttemptUnknown: if they aren't the same.
    """
    cookie = find_cookie(request.scope["headers"], _ATTEMPT.encode())
    attempt = None if cookie is None else Attempt.find(cookie, now_s)
    if attempt is None or not attempt.has_state(answer.get("state", "")):
        raise AttemptUnknown
    return attempt


def _redirect_uri(request: AnyRequest) -> str:
    """Where the issuer sends the browser, as it is registered there: with https wherever browsers keep our cookies."""
    scheme = request.scope["scheme"] if is_loopback(request.url.hostname or "") else "https"
    return f"{scheme}://{request.headers.get('host', '')}{_BACK}"


def _refused(request: AnyRequest, pages: Pages, error: ServingError) -> Response[str]:
    _log.info("sign_in_refused", extra={"reason": error.reason})
    # Not 401, by which browsers would ask for a name and a password in a window of their own.
    status = HTTP_403_FORBIDDEN if isinstance(error, Unauthenticated) else status_of(error)
    answer = page(
        pages.render("error.html", message=answer_error(request, error).content["message"]), status_code=status
    )
    answer.headers.update({} if isinstance(error, Unauthenticated) else headers_of(error))
    return answer


def _without_attempt(answer: Response[str]) -> Response[str]:
    """*answer*, by which the browser forgets an attempt that has come to its end, either way."""
    answer.set_cookie(key=_ATTEMPT, value="", max_age=0, path="/", secure=True, httponly=True, samesite="lax")
    return answer


handlers = [begin_sign_in, end_sign_in]
