"""Signing in and out by a browser: a name and a password for a session, which is a cookie and a row.

An identity provider's way ends in the same: `sessions.begin_session`, then `Pages.go_on` with `session_cookie`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.status_codes import HTTP_200_OK, HTTP_403_FORBIDDEN

from gateway.access.cookies import no_session_cookie, session_cookie
from gateway.access.credentials import Unauthenticated
from gateway.access.gatekeeper import Gatekeeper, WrongPassword
from gateway.access.identity import IDENTITY, Identity, current_identity
from gateway.api.own_pages import CsrfTokenWrong
from gateway.auth import needs
from gateway.errors import headers_of, status_of
from gateway.settings import Settings
from gateway.web.errors import PAGE_ERRORS
from gateway.web.forms import BODY_BYTES_MAX, Form, proof_for, read_form
from gateway.web.local_paths import local_path
from gateway.web.pages import AnyRequest, Pages, keeps_cookies, lead_to, page, wants_page
from tracking.access import sessions, users
from tracking.access.permissions import Permission
from tracking.access.sessions import UserTurnedOff
from tracking.access.tokens import NewToken
from tracking.access.users import UserNotFound
from tracking.database import Database
from tracking.errors import Exhausted

_log = logging.getLogger(__name__)

HOME = "/account"
_ENDPOINTS = "/endpoints"
_SIGNIN = "/signin"
_HOUR_S = 3_600
_TOO_OLD = "This page had been open for too long, or in too many windows. Please sign in again."

Clock = Callable[[], float]


class SignInLink(msgspec.Struct, frozen=True):
    """Another way to sign in than by password: ``Sign in with LABEL``, which leads to *path*."""

    label: str
    path: str
    """Gets ``?next=``, the path to go on to; see `local_path`."""


SignInLinks = Sequence[SignInLink]


@get("/", opt=needs(Permission.PUBLIC), media_type=MediaType.HTML, sync_to_thread=False, include_in_schema=False)
def lead_in(request: AnyRequest, gate: NamedDependency[Gatekeeper]) -> Response[str]:
    """Show a browser where to begin; there is nothing here for programs."""
    if wants_page(request):
        return lead_to(_ENDPOINTS if gate.is_open else HOME)
    raise NotFoundException


@get(
    _SIGNIN,
    opt=needs(Permission.PUBLIC),
    media_type=MediaType.HTML,
    sync_to_thread=False,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
)
def show_signin(
    request: AnyRequest,
    gate: NamedDependency[Gatekeeper],
    pages: NamedDependency[Pages],
    sign_in_links: NamedDependency[SignInLinks],
) -> Response[str]:
    """The form; whoever is known already is led on."""
    next_path = local_path(request.query_params.get("next"), HOME)
    if IDENTITY.get() is not None and not gate.is_open:
        return lead_to(next_path)
    return _signin_page(request, pages, sign_in_links, is_open=gate.is_open, next_path=next_path)


@post(
    _SIGNIN,
    status_code=HTTP_200_OK,
    opt=needs(Permission.PUBLIC),
    media_type=MediaType.HTML,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
    request_max_body_size=BODY_BYTES_MAX,
)
async def sign_in(
    request: AnyRequest,
    gate: NamedDependency[Gatekeeper],
    pages: NamedDependency[Pages],
    sign_in_links: NamedDependency[SignInLinks],
    settings: NamedDependency[Settings],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Response[str]:
    """Begin a session for whoever knows the password, in the place of the one that this browser may have."""
    if gate.is_open:
        return lead_to(HOME)
    try:
        form = await read_form(request)
    except CsrfTokenWrong:
        identity = IDENTITY.get()
        if identity is not None and identity.is_session:
            # Signed in meanwhile, in another window.
            return lead_to(HOME)
        return _signin_page(request, pages, sign_in_links, problem=_TOO_OLD, status_code=HTTP_403_FORBIDDEN)
    next_path, name = local_path(form.text("next"), HOME), form.text("name").strip()
    life_s, known = settings.session_hours * _HOUR_S, gate.book.users.get(name)
    try:
        await _checked(request, gate, form)
        begun = await asyncio.to_thread(
            _begin,
            database,
            name,
            known.password_hash if known else None,
            life_ms=life_s * 1000,
            now_ms=int(clock() * 1000),
        )
    except (Unauthenticated, Exhausted, UserTurnedOff) as error:
        # Not 401, by which browsers would ask for a name and a password in a window of their own.
        status_code = HTTP_403_FORBIDDEN if isinstance(error, Unauthenticated) else status_of(error)
        refused = _signin_page(
            request,
            pages,
            sign_in_links,
            problem=error.message,
            next_path=next_path,
            name=name,
            status_code=status_code,
        )
        refused.headers.update({} if isinstance(error, Unauthenticated) else headers_of(error))
        return refused
    _log.info("signed_in", extra={"user": name})
    return lead_to(next_path, cookie=session_cookie(begun.secret, life_s))


@post(
    "/signout",
    status_code=HTTP_200_OK,
    opt=needs(Permission.SELF),
    media_type=MediaType.HTML,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
    request_max_body_size=BODY_BYTES_MAX,
)
async def sign_out(request: AnyRequest, database: NamedDependency[Database]) -> Response[str]:
    """End this browser's session, or with ``everywhere`` all of its user's."""
    form, identity = await read_form(request), current_identity()
    await asyncio.to_thread(_end, database, identity, everywhere=bool(form.text("everywhere")))
    _log.info("signed_out", extra={"user": identity.name})
    return lead_to(_SIGNIN, cookie=no_session_cookie())


async def _checked(request: AnyRequest, gate: Gatekeeper, form: Form) -> Identity:
    client = request.scope["client"]
    name, password = form.text("name").strip(), form.text("password")
    found = gate.check_password(name, password, client[0] if client else "", request.scope["headers"])
    return found if isinstance(found, Identity) else await found


def _begin(database: Database, user: str, password_hash: str | None, *, life_ms: int, now_ms: int) -> NewToken:
    """A session of *user*, whose password is of *password_hash*, by what this worker knows."""
    before = IDENTITY.get()
    with database.writing() as session:
        if before is not None and before.is_session:
            sessions.end_session(session, str(before.token_id))
        try:
            begun = sessions.begin_session(session, user, life_ms=life_ms, now_ms=now_ms)
        except UserNotFound:
            # Removed since this replica heard of them last.
            raise WrongPassword from None
        if not users.is_password_hash(session, user, password_hash):
            # Changed since then, which ended all sessions that were begun by the old one; so this is none.
            raise WrongPassword
        return begun


def _end(database: Database, identity: Identity, *, everywhere: bool) -> None:
    with database.writing() as session:
        if everywhere:
            sessions.revoke_sessions(session, identity.name)
        elif identity.is_session:
            sessions.end_session(session, str(identity.token_id))


def _signin_page(
    request: AnyRequest,
    pages: Pages,
    links: SignInLinks,
    *,
    is_open: bool = False,
    problem: str = "",
    next_path: str = HOME,
    name: str = "",
    status_code: int = HTTP_200_OK,
) -> Response[str]:
    proof, cookie = proof_for(request)
    content = pages.render(
        "signin.html",
        is_open=is_open,
        keeps_cookies=keeps_cookies(request),
        links=links,
        csrf_token=proof,
        next_path=next_path,
        name=name,
        problem=problem,
    )
    return page(content, status_code=status_code, cookie=cookie, has_form=True)


handlers = [lead_in, show_signin, sign_in, sign_out]
