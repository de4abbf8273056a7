"""One's own account as a page: who one is here, what one may do, and one's tokens."""

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_400_BAD_REQUEST

from gateway.access.gatekeeper import Gatekeeper
from gateway.access.identity import Identity, current_identity
from gateway.auth import needs
from gateway.web.errors import PAGE_ERRORS
from gateway.web.forms import BODY_BYTES_MAX, Form, proof_for, read_form
from gateway.web.grant_words import choices_within, in_words
from gateway.web.instants import minute_of
from gateway.web.pages import AnyRequest, Pages, keeps_cookies, lead_to, page
from gateway.web.token_form import EMPTY, FieldWrong, TokenWish, read_wish
from tracking.access import tokens, users
from tracking.access.entities import Token
from tracking.access.permissions import Permission
from tracking.access.tokens import LIFE_DAYS_MAX, NewToken, TokenNotFound, TokenOver
from tracking.access.users import GrantsTooMuch, UserNotFound
from tracking.database import Database
from tracking.errors import Exhausted, InvalidParameter

_log = logging.getLogger(__name__)

_ACCOUNT = "/account"

Clock = Callable[[], float]


class Row(msgspec.Struct, frozen=True):
    """A token as the page's table has it."""

    id: str
    name: str
    beginning: str
    may: list[str]
    """Empty for all that its user may."""
    last_used: str
    expires: str


@get(
    _ACCOUNT,
    opt=needs(Permission.SELF),
    media_type=MediaType.HTML,
    sync_to_thread=True,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
)
def show_account(
    request: AnyRequest,
    gate: NamedDependency[Gatekeeper],
    pages: NamedDependency[Pages],
    database: NamedDependency[Database],
) -> Response[str]:
    """Who asks, and their tokens."""
    return _account_page(request, gate, pages, database)


@post(
    f"{_ACCOUNT}/tokens",
    status_code=HTTP_200_OK,
    opt=needs(Permission.SELF),
    media_type=MediaType.HTML,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
    request_max_body_size=BODY_BYTES_MAX,
)
async def make_token(
    request: AnyRequest,
    gate: NamedDependency[Gatekeeper],
    pages: NamedDependency[Pages],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Response[str]:
    """Make a token and show it this once, or show what is wrong with the form."""
    form, identity = await read_form(request), current_identity()

    def made_or_said() -> Response[str]:
        try:
            made = _make(database, identity, read_wish(form, identity.grants), int(clock() * 1000))
        except (InvalidParameter, Exhausted, GrantsTooMuch, TokenOver, UserNotFound) as error:
            field = error.field if isinstance(error, FieldWrong) else "form"
            return _account_page(request, gate, pages, database, problems={field: error.message}, form=form)
        return _account_page(request, gate, pages, database, made=made)

    return await asyncio.to_thread(made_or_said)


@post(
    f"{_ACCOUNT}/tokens/{{token_id:str}}/revoke",
    status_code=HTTP_200_OK,
    opt=needs(Permission.SELF),
    media_type=MediaType.HTML,
    include_in_schema=False,
    exception_handlers=PAGE_ERRORS,
    request_max_body_size=BODY_BYTES_MAX,
)
async def revoke_token(
    request: AnyRequest,
    token_id: FromPath[str],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Response[str]:
    """Take one of one's own tokens back."""
    await read_form(request)
    await asyncio.to_thread(_revoke, database, current_identity(), token_id, int(clock() * 1000))
    return lead_to(_ACCOUNT)


def _make(database: Database, identity: Identity, wish: TokenWish, now_ms: int) -> NewToken:
    if identity.key is not None:
        # A key has a name of its own, which may be a user's.
        raise UserNotFound(identity.name)
    with database.writing() as session:
        made = tokens.create_token(
            session,
            identity.name,
            wish.name,
            life_ms=wish.life_ms,
            now_ms=now_ms,
            own=identity.grants,
            scope=wish.scope,
            asked_with=identity.token_id,
        )
    _log.info("token_added", extra={"token": made.token.id, "user": identity.name, "author": identity.name})
    return made


def _revoke(database: Database, identity: Identity, token_id: str, now_ms: int) -> None:
    with database.writing() as session:
        token = tokens.get_token(session, token_id)
        if identity.key is not None or token.user != identity.name:
            # Not there and not yours are the same.
            raise TokenNotFound(token_id)
        tokens.ensure_may_revoke(session, token, identity.token_id, now_ms)
        tokens.revoke_token(session, token_id)
    _log.info("token_revoked", extra={"token": token_id, "author": identity.name})


def _account_page(
    request: AnyRequest,
    gate: Gatekeeper,
    pages: Pages,
    database: Database,
    *,
    made: NewToken | None = None,
    problems: Mapping[str, str] | None = None,
    form: Form = EMPTY,
) -> Response[str]:
    identity = current_identity()
    proof, cookie = proof_for(request)
    content = pages.render(
        "account.html",
        name=identity.name,
        is_open=gate.is_open,
        is_session=identity.is_session,
        may=in_words(identity.grants),
        base_url=str(request.base_url).rstrip("/"),
        tokens=None if gate.is_open else _rows(database, identity),
        takes_forms=keeps_cookies(request),
        choices=choices_within(identity.grants),
        days_max=LIFE_DAYS_MAX,
        csrf_token=proof,
        made=made,
        problems=problems or {},
        form=form,
    )
    status_code = HTTP_400_BAD_REQUEST if problems else HTTP_200_OK
    return page(content, status_code=status_code, cookie=cookie, has_form=True)


def _rows(database: Database, identity: Identity) -> list[Row] | None:
    """The tokens of whoever asks; None if they can have none, being no user that anybody has added."""
    if identity.key is not None:
        return None
    with database.reading() as session:
        try:
            users.get_user(session, identity.name)
        except UserNotFound:
            return None
        return [_row(token) for token in tokens.list_tokens(session, identity.name)]


def _row(token: Token) -> Row:
    return Row(
        id=token.id,
        name=token.name,
        beginning=token.beginning,
        may=[] if token.scope is None else sorted(map(str, token.scope)),
        last_used="never" if token.last_used_ms is None else minute_of(token.last_used_ms),
        expires=minute_of(token.expires_ms),
    )


handlers = [show_account, make_token, revoke_token]
