"""All of access as one value: what a worker needs to know whom it is talking to, without a database."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from tracking.access.changes import change_number
from tracking.access.grants import Grant, beyond
from tracking.access.schema import GrantRow, ScoringKeyRow, TokenRow, UserRow


class KnownUser(msgspec.Struct, frozen=True):
    name: str
    grants: tuple[Grant, ...]
    password_hash: str | None


class KnownToken(msgspec.Struct, frozen=True):
    id: str
    user: str
    grants: tuple[Grant, ...]
    expires_ms: int
    is_session: bool


class KnownKey(msgspec.Struct, frozen=True):
    id: str
    name: str
    endpoints: tuple[str, ...]
    may_force: bool
    may_pin: bool
    rate: float | None
    expires_ms: int | None


class Book(msgspec.Struct, frozen=True):
    """Everybody who may come in, as of one change number; tokens and keys by the hash of their secret."""

    number: int = -1
    users: dict[str, KnownUser] = {}
    tokens: dict[str, KnownToken] = {}
    keys: dict[str, KnownKey] = {}
    disabled: frozenset[str] = frozenset()
    """Users who may not come in, whoever vouches for them."""


def read_book(session: Session) -> Book:
    """The book as it stands. Of those who are disabled it has the names alone."""
    # First: if rows are newer than their number, they are read once too often, and never too seldom.
    number = change_number(session)
    granted: dict[str, list[Grant]] = {}
    for row in session.scalars(select(GrantRow)):
        granted.setdefault(row.user_name, []).append(Grant.parse(row.grant))
    users = {
        row.name: KnownUser(row.name, tuple(granted.get(row.name, ())), row.password_hash)
        for row in session.scalars(select(UserRow).where(UserRow.is_disabled.is_(False)))
    }
    return Book(
        number=number,
        disabled=frozenset(session.scalars(select(UserRow.name).where(UserRow.is_disabled.is_(True)))),
        users=users,
        tokens={
            row.digest: KnownToken(
                row.id, row.user_name, _within(row.scope, users[row.user_name].grants), row.expires_ms, row.is_session
            )
            for row in session.scalars(select(TokenRow))
            if row.user_name in users
        },
        keys={
            row.digest: KnownKey(
                row.id, row.name, tuple(row.endpoints), row.may_force, row.may_pin, row.rate, row.expires_ms
            )
            for row in session.scalars(select(ScoringKeyRow))
        },
    )


def _within(scope: Iterable[str] | None, granted: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """A token's own grants, less those that its user hasn't any more."""
    if scope is None:
        return granted
    grants = tuple(Grant.parse(text) for text in scope)
    lost = set(beyond(grants, granted))
    return tuple(grant for grant in grants if grant not in lost)
