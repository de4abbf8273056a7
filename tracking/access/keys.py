"""Scoring keys: what an application asks endpoints with, and nothing else."""

import secrets
from collections.abc import Collection, Iterable

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tracking.access.changes import raise_change_number
from tracking.access.entities import ScoringKey
from tracking.access.grants import Grant, Kind
from tracking.access.permissions import Permission
from tracking.access.schema import NAME_LENGTH_MAX, ScoringKeyRow
from tracking.access.secrets import SecretKind, beginning_of, digest_of, new_secret
from tracking.access.users import GrantsTooMuch, may_manage, not_to_give
from tracking.errors import AlreadyExists, Exhausted, InvalidParameter, NotFound
from tracking.names import check_text

KEYS_MAX = 10_000
_ENDPOINTS_MAX = 100
_RATE_MAX = 1e6
_SEEING = (Permission.ACCESS_READ, Permission.ACCESS_WRITE)


class KeyNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no scoring key {name!r}.")


class KeyExists(AlreadyExists):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is a scoring key {name!r} already.")


class NewKey(msgspec.Struct, frozen=True):
    """A key, and the one time that its secret is told."""

    key: ScoringKey
    secret: str


def create_key(
    session: Session,
    name: str,
    *,
    endpoints: Collection[str],
    author: str,
    own: Collection[Grant],
    now_ms: int,
    may_force: bool = False,
    may_pin: bool = False,
    rate: float | None = None,
    life_ms: int | None = None,
) -> NewKey:
    """Make a key for *endpoints*, within *own*, the grants of who makes it.

    Raises:
        GrantsTooMuch: if *own* doesn't let somebody ask them all, by model's names, in the ways that the key may.
        KeyExists: if the name is taken.
        InvalidParameter: if no endpoint is named, or a rate or a life is none.
        Exhausted: if there are too many keys.
    """
    if not name or not 0 < len(endpoints) <= _ENDPOINTS_MAX or not all(endpoints):
        raise InvalidParameter(f"A scoring key has a name and is for 1 to {_ENDPOINTS_MAX} endpoints; * is all.")
    if rate is not None and not 0 < rate <= _RATE_MAX:
        raise InvalidParameter("A rate is a number of requests a second, over 0.")
    if life_ms is not None and life_ms <= 0:
        raise InvalidParameter("A key lives for some time, or without an end.")
    for endpoint in endpoints:
        check_text(endpoint, "endpoint", NAME_LENGTH_MAX)
    if too_much := not_to_give(_grants(endpoints, says_who=may_force or may_pin), own):
        raise GrantsTooMuch(too_much)
    raise_change_number(session)
    if session.scalar(select(ScoringKeyRow.id).where(ScoringKeyRow.name == check_text(name, "name", NAME_LENGTH_MAX))):
        raise KeyExists(name)
    if (session.scalar(select(func.count()).select_from(ScoringKeyRow)) or 0) >= KEYS_MAX:
        raise Exhausted(f"There are {KEYS_MAX} scoring keys; revoke one first.")
    secret = new_secret(SecretKind.SCORING_KEY)
    row = ScoringKeyRow(
        id=secrets.token_hex(8),
        name=name,
        digest=digest_of(secret),
        beginning=beginning_of(secret),
        endpoints=sorted(set(endpoints)),
        may_force=may_force,
        may_pin=may_pin,
        rate=rate,
        author=author,
        created_ms=now_ms,
        expires_ms=None if life_ms is None else now_ms + life_ms,
    )
    session.add(row)
    session.flush()
    return NewKey(_key(row), secret)


def list_keys(session: Session, own: Collection[Grant]) -> list[ScoringKey]:
    """All keys that whoever has *own* sees, by name."""
    keys = (_key(row) for row in session.scalars(select(ScoringKeyRow).order_by(ScoringKeyRow.name)))
    return [key for key in keys if _may_manage(key, own, Permission.ACCESS_READ)]


def revoke_key(session: Session, name: str, own: Collection[Grant]) -> None:
    """Take a key back, on all replicas within seconds.

    Raises:
        KeyNotFound: if there is none, or none that whoever has *own* has to do with.
        GrantsTooMuch: if they see this one, and couldn't have made it.
    """
    raise_change_number(session)
    row = session.scalar(select(ScoringKeyRow).where(ScoringKeyRow.name == name))
    if row is None or not any(_may_manage(_key(row), own, one) for one in _SEEING):
        raise KeyNotFound(name)
    key = _key(row)
    if not _may_manage(key, own, Permission.ACCESS_WRITE):
        raise GrantsTooMuch(not_to_give(_as_granted(key), own))
    session.delete(row)
    session.flush()


def _may_manage(key: ScoringKey, own: Collection[Grant], permission: Permission) -> bool:
    return may_manage(_as_granted(key), own, permission)


def _as_granted(key: ScoringKey) -> list[Grant]:
    return _grants(key.endpoints, says_who=key.may_force or key.may_pin)


def _grants(endpoints: Iterable[str], *, says_who: bool) -> list[Grant]:
    """What a user would have to be granted to ask as a key for *endpoints* does."""
    permissions = [Permission.SCORE, *([Permission.SCORE_FORCED] if says_who else [])]
    return [_grant(permission, endpoint) for permission in permissions for endpoint in endpoints]


def _grant(permission: Permission, endpoint: str) -> Grant:
    if endpoint == "*":
        return Grant(permission.value)
    return Grant(permission.value, Kind.MODEL, endpoint.removesuffix("*"), endpoint.endswith("*"))


def _key(row: ScoringKeyRow) -> ScoringKey:
    return ScoringKey(
        id=row.id,
        name=row.name,
        beginning=row.beginning,
        endpoints=tuple(row.endpoints),
        may_force=row.may_force,
        may_pin=row.may_pin,
        rate=row.rate,
        author=row.author,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        last_used_ms=row.last_used_ms,
    )
