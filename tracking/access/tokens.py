"""Tokens of users: shown once, kept as a hash, never above their user. Sessions of browsers are rows among them."""

import secrets
from collections.abc import Collection, Iterable, Mapping

import msgspec
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from tracking.access.changes import raise_change_number
from tracking.access.entities import Token
from tracking.access.grants import Grant, beyond
from tracking.access.schema import NAME_LENGTH_MAX, ScoringKeyRow, TokenRow
from tracking.access.secrets import SecretKind, beginning_of, digest_of, new_secret
from tracking.access.users import GrantsTooMuch, get_user
from tracking.errors import Exhausted, InvalidParameter, NotFound, PermissionDenied
from tracking.names import check_text

TOKENS_MAX = 100
"""Of one user, besides the sessions of their browsers."""
DAY_MS = 86_400_000
LIFE_DAYS_MAX = 366


class TokenNotFound(NotFound):
    def __init__(self, token_id: str) -> None:
        super().__init__(f"There is no token {token_id!r}.")


class TokenOver(PermissionDenied):
    """A worker may know a token for a moment longer than it counts; by then it leaves nothing behind."""

    def __init__(self) -> None:
        super().__init__("The token that this was asked with has been revoked, or has expired.")


class TokenTooNarrow(PermissionDenied):
    def __init__(self) -> None:
        super().__init__("A token that was made for less than its user may doesn't revoke one that may more.")


class NewToken(msgspec.Struct, frozen=True):
    """A token, and the one time that its secret is told."""

    token: Token
    secret: str


def create_token(
    session: Session,
    user: str,
    name: str,
    *,
    life_ms: int,
    now_ms: int,
    own: Collection[Grant],
    scope: Collection[Grant] | None = None,
    is_session: bool = False,
    secret: str | None = None,
    asked_with: str | None = None,
) -> NewToken:
    """Make a token of *user*'s, within their grants and within *own*, those of who makes it.

    *asked_with* is the id of the token that they showed, if it was one. Where that has a scope, the new one has one
    too, and doesn't outlive it: or whoever was given it could make one that gains what the user gains.

    Raises:
        TokenOver: if that token has been taken back meanwhile.
        UserNotFound: if there is no such user.
        GrantsTooMuch: if *scope* is more than the user or the maker has.
        InvalidParameter: for a life that is no life, or longer than a year.
        Exhausted: if the user has too many.
    """
    if not 0 < life_ms <= LIFE_DAYS_MAX * DAY_MS:
        raise InvalidParameter(f"A token lives for up to {LIFE_DAYS_MAX} days.")
    raise_change_number(session)
    shown = None if asked_with is None else _token_in_force(session, asked_with, now_ms)
    is_narrow = shown is not None and shown.scope is not None
    expires_ms = now_ms + life_ms if shown is None or not is_narrow else min(now_ms + life_ms, shown.expires_ms)
    granted = get_user(session, user).grants
    given = granted if scope is None else tuple(scope)
    if too_much := [*beyond(given, granted), *beyond(given, own)]:
        raise GrantsTooMuch(sorted(set(too_much)))
    _remove_expired(session, now_ms)
    if not is_session and _count(session, user) >= TOKENS_MAX:
        raise Exhausted(f"{user!r} has {TOKENS_MAX} tokens; revoke one first.")
    secret = secret or new_secret(SecretKind.SESSION if is_session else SecretKind.TOKEN)
    row = TokenRow(
        id=secrets.token_hex(8),
        user_name=user,
        name=check_text(name, "name", NAME_LENGTH_MAX),
        digest=digest_of(secret),
        beginning=beginning_of(secret),
        is_session=is_session,
        scope=None if scope is None and not is_narrow else sorted(map(str, given)),
        created_ms=now_ms,
        expires_ms=expires_ms,
    )
    session.add(row)
    session.flush()
    return NewToken(_token(row), secret)


def list_tokens(session: Session, user: str | None = None) -> list[Token]:
    """Tokens of *user*, or of all, the newest first; without sessions."""
    query = select(TokenRow).where(TokenRow.is_session.is_(False)).order_by(TokenRow.created_ms.desc(), TokenRow.id)
    return [_token(row) for row in session.scalars(query if user is None else query.where(TokenRow.user_name == user))]


def get_token(session: Session, token_id: str) -> Token:
    """The token *token_id*.

    Raises:
        TokenNotFound: if there is none.
    """
    row = session.get(TokenRow, token_id)
    if row is None:
        raise TokenNotFound(token_id)
    return _token(row)


def ensure_may_revoke(session: Session, token: Token, asked_with: str | None, now_ms: int) -> None:
    """Look at whether *token* may be revoked by its user, who shows the token of the id *asked_with*, if it is one.

    Raises:
        TokenOver: if that one has been taken back meanwhile.
        TokenTooNarrow: if it has a scope, beyond which *token* is.
    """
    if asked_with is None or asked_with == token.id:
        return
    scope = _token_in_force(session, asked_with, now_ms).scope
    if scope is not None:
        may = get_user(session, token.user).grants if token.scope is None else token.scope
        if beyond(may, scope):
            raise TokenTooNarrow


def revoke_token(session: Session, token_id: str) -> None:
    """Take a token back, on all replicas within seconds.

    Raises:
        TokenNotFound: if there is none.
    """
    raise_change_number(session)
    if session.execute(delete(TokenRow).where(TokenRow.id == token_id)).rowcount == 0:  # type: ignore[attr-defined]
        raise TokenNotFound(token_id)


def note_used(session: Session, last_used_ms: Mapping[str, int]) -> None:
    """Keep when tokens and scoring keys, by their ids, were used last."""
    for row in (TokenRow, ScoringKeyRow):
        for used_id, used_ms in last_used_ms.items():
            newer = or_(row.last_used_ms.is_(None), row.last_used_ms < used_ms)
            session.execute(update(row).where(row.id == used_id, newer).values(last_used_ms=used_ms))


def ensure_in_force(session: Session, token_id: str, now_ms: int) -> None:
    """Look at a token that something is asked with, which a worker may know for a moment longer than it counts.

    Raises:
        TokenOver: if it has been taken back, or has expired.
    """
    _token_in_force(session, token_id, now_ms)


def _token_in_force(session: Session, token_id: str, now_ms: int) -> Token:
    row = session.get(TokenRow, token_id)
    if row is None or row.expires_ms <= now_ms:
        raise TokenOver
    return _token(row)


def _count(session: Session, user: str) -> int:
    mine = select(func.count()).where(TokenRow.user_name == user, TokenRow.is_session.is_(False))
    return session.scalar(mine) or 0


def _remove_expired(session: Session, now_ms: int) -> None:
    session.execute(delete(TokenRow).where(TokenRow.expires_ms < now_ms - 30 * DAY_MS))
    session.execute(delete(TokenRow).where(TokenRow.expires_ms < now_ms, TokenRow.is_session.is_(True)))


def _token(row: TokenRow) -> Token:
    return Token(
        id=row.id,
        user=row.user_name,
        name=row.name,
        beginning=row.beginning,
        is_session=row.is_session,
        scope=None if row.scope is None else _grants(row.scope),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        last_used_ms=row.last_used_ms,
    )


def _grants(texts: Iterable[str]) -> tuple[Grant, ...]:
    return tuple(Grant.parse(text) for text in texts)
