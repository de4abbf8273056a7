"""Titlebout's own API for access: one's own name and tokens; users, what they are granted, and keys of applications.

A secret is in the answer that makes it and nowhere else. Until lists are narrowed by them, grants are for everything.
"""

import logging
from collections.abc import Callable, Collection

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from gateway.access.gatekeeper import Gatekeeper
from gateway.access.identity import LOCAL, Identity, NotPermitted, current_identity
from gateway.auth import needs
from tracking.access import keys, sessions, subjects, tokens, users
from tracking.access.entities import ScoringKey, Token, User
from tracking.access.grants import Grant, beyond
from tracking.access.permissions import Permission, Role
from tracking.access.tokens import DAY_MS
from tracking.database import Database
from tracking.errors import InvalidParameter

_log = logging.getLogger(__name__)

_ROOT = "/api/1.0/titlebout"
_DAYS = 90
_DAYS_MAX = 36_600

Clock = Callable[[], float]


class Me(msgspec.Struct, kw_only=True):
    """Who is asking."""

    name: str
    grants: list[str]
    scoring_key: bool
    """Whether this is an application's key, and no user."""


class UserAnswer(msgspec.Struct, kw_only=True):
    name: str
    grants: list[str]
    has_password: bool
    oidc_subject: str | None
    """Who this is to an OpenID Connect issuer: its URL and the subject."""
    oidc_awaited: bool
    """Whether whoever the issuer calls by this name first is this user."""
    is_disabled: bool
    created_by: str
    created_ms: int


class Users(msgspec.Struct, kw_only=True):
    users: list[UserAnswer]


class AddUser(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    grants: list[str] = []
    password: str | None = None
    """None for users that sign in by token, or by a proxy."""
    oidc: bool = False
    """Whether whoever the issuer calls by this name is this user."""


class ChangeUser(msgspec.Struct, forbid_unknown_fields=True):
    """What isn't given stays as it is."""

    grants: list[str] | None = None
    password: str | None = None
    """The empty text takes the password away."""
    oidc: bool | None = None
    """Either way the issuer's subject that they were is forgotten; with true, whoever it calls so next is this user."""
    is_disabled: bool | None = None


class TokenAnswer(msgspec.Struct, kw_only=True):
    id: str
    user: str
    name: str
    beginning: str
    scope: list[str] | None
    """None is all that the user may."""
    created_ms: int
    expires_ms: int
    last_used_ms: int | None
    secret: str | None = None
    """In the answer that makes it."""


class Tokens(msgspec.Struct, kw_only=True):
    tokens: list[TokenAnswer]


class AddToken(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    days: float = _DAYS
    scope: list[str] | None = None
    user: str | None = None
    """Whose it is; one's own where nobody is named."""


class KeyAnswer(msgspec.Struct, kw_only=True):
    id: str
    name: str
    beginning: str
    endpoints: list[str]
    may_force: bool
    may_pin: bool
    rate: float | None
    author: str
    created_ms: int
    expires_ms: int | None
    last_used_ms: int | None
    secret: str | None = None
    """In the answer that makes it."""


class Keys(msgspec.Struct, kw_only=True):
    keys: list[KeyAnswer]


class AddKey(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    endpoints: list[str]
    may_force: bool = False
    may_pin: bool = False
    rate: float | None = None
    """Requests a second, for each replica."""
    days: float | None = None


@get(f"{_ROOT}/me", sync_to_thread=False, opt=needs(Permission.SELF))
def get_me() -> Me:
    identity = current_identity()
    return Me(name=identity.name, grants=_texts(identity.grants), scoring_key=identity.key is not None)


# --- users


@get(f"{_ROOT}/users", sync_to_thread=True, opt=needs(Permission.ACCESS_READ))
def list_users(database: NamedDependency[Database]) -> Users:
    with database.reading() as session:
        return Users(users=[_user(user) for user in users.list_users(session, current_identity().grants)])


@post(f"{_ROOT}/users", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.ACCESS_WRITE))
def add_user(
    data: JSONBody[AddUser],
    database: NamedDependency[Database],
    gate: NamedDependency[Gatekeeper],
    clock: NamedDependency[Clock],
) -> UserAnswer:
    grants, identity = _grants(data.grants), current_identity()
    password_hash = None if data.password is None else gate.hash_password(data.password)
    now_ms = int(clock() * 1000)
    with database.writing() as session:
        _ensure_in_force(session, identity, now_ms)
        user = users.create_user(
            session,
            data.name,
            grants=grants,
            password_hash=password_hash,
            author=identity.name,
            own=identity.grants,
            now_ms=now_ms,
        )
        if data.oidc:
            user = subjects.set_oidc(session, data.name, awaited=True, own=identity.grants)
    _log.info("user_added", extra={"user": user.name, "grants": _texts(user.grants), "author": identity.name})
    return _user(user)


@get(f"{_ROOT}/users/{{name:str}}", sync_to_thread=True, opt=needs(Permission.ACCESS_READ))
def get_user(name: FromPath[str], database: NamedDependency[Database]) -> UserAnswer:
    with database.reading() as session:
        return _user(users.get_managed_user(session, name, current_identity().grants, Permission.ACCESS_READ))


@patch(f"{_ROOT}/users/{{name:str}}", sync_to_thread=True, opt=needs(Permission.ACCESS_WRITE))
def change_user(
    name: FromPath[str],
    data: JSONBody[ChangeUser],
    database: NamedDependency[Database],
    gate: NamedDependency[Gatekeeper],
    clock: NamedDependency[Clock],
) -> UserAnswer:
    identity = current_identity()
    password_hash = gate.hash_password(data.password) if data.password else None
    now_ms = int(clock() * 1000)
    with database.writing() as session:
        _ensure_in_force(session, identity, now_ms)
        if data.grants is not None:
            users.set_grants(
                session, name, _grants(data.grants), author=identity.name, own=identity.grants, now_ms=now_ms
            )
        if data.is_disabled is not None:
            users.set_disabled(session, name, disabled=data.is_disabled, own=identity.grants)
        if data.password is not None:
            users.set_password(session, name, password_hash, own=identity.grants)
            sessions.revoke_sessions(session, name)
        if data.oidc is not None:
            subjects.set_oidc(session, name, awaited=data.oidc, own=identity.grants)
            sessions.revoke_sessions(session, name)
        user = users.get_managed_user(session, name, identity.grants, Permission.ACCESS_WRITE)
    facts = {"grants": _texts(user.grants), "is_disabled": user.is_disabled, "author": identity.name}
    _log.info("user_changed", extra={"user": name, **facts})
    return _user(user)


@delete(f"{_ROOT}/users/{{name:str}}", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.ACCESS_WRITE))
def remove_user(
    name: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str]:
    identity = current_identity()
    with database.writing() as session:
        _ensure_in_force(session, identity, int(clock() * 1000))
        users.delete_user(session, name, own=identity.grants)
    _log.info("user_removed", extra={"user": name, "author": identity.name})
    return {"name": name}


# --- tokens


@get(f"{_ROOT}/tokens", sync_to_thread=True, opt=needs(Permission.SELF))
def list_tokens(database: NamedDependency[Database], user: FromQuery[str | None] = None) -> Tokens:
    """One's own tokens, or another's for whoever may see access."""
    identity = current_identity()
    owner = _owner(identity, user, Permission.ACCESS_READ)
    with database.reading() as session:
        _ensure_managed(session, identity, owner, Permission.ACCESS_READ)
        return Tokens(tokens=[_token(token) for token in tokens.list_tokens(session, owner)])


@post(f"{_ROOT}/tokens", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.SELF))
def add_token(
    data: JSONBody[AddToken], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> TokenAnswer:
    """A token of one's own, or another's for whoever may give access; never above the one that is asked with."""
    identity = current_identity()
    owner = _owner(identity, data.user, Permission.ACCESS_WRITE)
    with database.writing() as session:
        _ensure_managed(session, identity, owner, Permission.ACCESS_WRITE)
        made = tokens.create_token(
            session,
            owner,
            data.name,
            life_ms=_life_ms(data.days),
            now_ms=int(clock() * 1000),
            own=identity.grants,
            scope=_scope(session, identity, owner, data.scope),
            asked_with=identity.token_id,
        )
    _log.info("token_added", extra={"token": made.token.id, "user": owner, "author": identity.name})
    return _token(made.token, made.secret)


@delete(f"{_ROOT}/tokens/{{token_id:str}}", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.SELF))
def revoke_token(
    token_id: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str]:
    identity = current_identity()
    with database.writing() as session:
        _ensure_own(session, identity, token_id, int(clock() * 1000))
        tokens.revoke_token(session, token_id)
    _log.info("token_revoked", extra={"token": token_id, "author": identity.name})
    return {"id": token_id}


# --- keys


@get(f"{_ROOT}/scoring-keys", sync_to_thread=True, opt=needs(Permission.ACCESS_READ))
def list_keys(database: NamedDependency[Database]) -> Keys:
    with database.reading() as session:
        return Keys(keys=[_key(key) for key in keys.list_keys(session, current_identity().grants)])


@post(f"{_ROOT}/scoring-keys", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.ACCESS_WRITE))
def add_key(data: JSONBody[AddKey], database: NamedDependency[Database], clock: NamedDependency[Clock]) -> KeyAnswer:
    """A key for applications that ask endpoints."""
    identity, now_ms = current_identity(), int(clock() * 1000)
    with database.writing() as session:
        _ensure_in_force(session, identity, now_ms)
        made = keys.create_key(
            session,
            data.name,
            endpoints=data.endpoints,
            author=identity.name,
            own=identity.grants,
            now_ms=now_ms,
            may_force=data.may_force,
            may_pin=data.may_pin,
            rate=data.rate,
            life_ms=None if data.days is None else _life_ms(data.days),
        )
    _log.info("key_added", extra={"key": data.name, "endpoints": data.endpoints, "author": identity.name})
    return _key(made.key, made.secret)


@delete(
    f"{_ROOT}/scoring-keys/{{name:str}}",
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.ACCESS_WRITE),
)
def revoke_key(
    name: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str]:
    identity = current_identity()
    with database.writing() as session:
        _ensure_in_force(session, identity, int(clock() * 1000))
        keys.revoke_key(session, name, identity.grants)
    _log.info("key_revoked", extra={"key": name, "author": identity.name})
    return {"name": name}


def _ensure_in_force(session: Session, identity: Identity, now_ms: int) -> None:
    """Let nobody leave a user or a key behind by a token that has just been taken back."""
    if identity.token_id is not None:
        tokens.ensure_in_force(session, identity.token_id, now_ms)


def _life_ms(days: float) -> int:
    if not 0 < days <= _DAYS_MAX:  # NaN, too, which is neither.
        raise InvalidParameter(f"'days' is a number over 0, and at most {_DAYS_MAX}.")
    return int(days * DAY_MS)


def _owner(identity: Identity, user: str | None, permission: Permission) -> str:
    """Whose tokens are meant, if *identity* may deal with them."""
    if identity.key is not None:
        raise NotPermitted(identity.name, permission)
    if user is not None and user != identity.name:
        identity.caller(permission)
        return user
    return users.ADMIN if identity is LOCAL else identity.name


def _ensure_managed(session: Session, identity: Identity, user: str, permission: Permission) -> None:
    """Raise `UserNotFound` for a user who is neither *identity* nor theirs to manage, as *permission* says."""
    if user == identity.name:
        users.get_user(session, user)
    else:
        users.get_managed_user(session, user, identity.grants, permission)


def _scope(session: Session, identity: Identity, owner: str, scope: list[str] | None) -> list[Grant] | None:
    """What a new token may: what is asked for, or all that *owner* may, whatever that comes to be.

    Who makes it for another has it in hand, and gets no share in what that one is granted later, unless they are an
    administrator.
    """
    if scope is not None:
        return _grants(scope)
    if owner == identity.name or not beyond([Grant(Role.ADMIN.value)], identity.grants):
        return None
    return list(users.get_user(session, owner).grants)


def _ensure_own(session: Session, identity: Identity, token_id: str, now_ms: int) -> None:
    """Let nobody revoke what isn't theirs, nor learn that it is there."""
    token = tokens.get_token(session, token_id)
    if identity.key is None and token.user == identity.name:
        tokens.ensure_may_revoke(session, token, identity.token_id, now_ms)
        return
    try:
        identity.caller(Permission.ACCESS_WRITE)
        users.get_managed_user(session, token.user, identity.grants, Permission.ACCESS_WRITE)
    except (NotPermitted, users.UserNotFound):
        raise tokens.TokenNotFound(token_id) from None


def _grants(texts: Collection[str]) -> list[Grant]:
    return [Grant.parse(text) for text in texts]


def _texts(grants: Collection[Grant]) -> list[str]:
    return sorted(map(str, grants))


def _user(user: User) -> UserAnswer:
    return UserAnswer(
        name=user.name,
        grants=_texts(user.grants),
        has_password=user.has_password,
        oidc_subject=user.oidc_subject,
        oidc_awaited=user.oidc_awaited,
        is_disabled=user.is_disabled,
        created_by=user.created_by,
        created_ms=user.created_ms,
    )


def _token(token: Token, secret: str | None = None) -> TokenAnswer:
    return TokenAnswer(
        id=token.id,
        user=token.user,
        name=token.name,
        beginning=token.beginning,
        scope=None if token.scope is None else _texts(token.scope),
        created_ms=token.created_ms,
        expires_ms=token.expires_ms,
        last_used_ms=token.last_used_ms,
        secret=secret,
    )


def _key(key: ScoringKey, secret: str | None = None) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        name=key.name,
        beginning=key.beginning,
        endpoints=list(key.endpoints),
        may_force=key.may_force,
        may_pin=key.may_pin,
        rate=key.rate,
        author=key.author,
        created_ms=key.created_ms,
        expires_ms=key.expires_ms,
        last_used_ms=key.last_used_ms,
        secret=secret,
    )


handlers = [
    get_me,
    list_users,
    add_user,
    get_user,
    change_user,
    remove_user,
    list_tokens,
    add_token,
    revoke_token,
    list_keys,
    add_key,
    revoke_key,
]
