"""Users and what they are granted."""

import re
from collections.abc import Collection, Iterable

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tracking.access.changes import raise_change_number
from tracking.access.entities import User
from tracking.access.grants import Grant, beyond, scope_of
from tracking.access.permissions import Permission, Role
from tracking.access.schema import NAME_LENGTH_MAX, GrantRow, UserRow
from tracking.errors import AlreadyExists, Conflict, Exhausted, InvalidParameter, NotFound, PermissionDenied

ADMIN = "admin"
"""The user whom the first start makes."""

USERS_MAX = 10_000
_GRANTS_MAX = 1_000
# Signs of mail addresses too; nothing that Basic authentication or a log line could trip over.
_NAME = re.compile(rf"[\w.@+\-]{{1,{NAME_LENGTH_MAX}}}")


class UserNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no user {name!r}.")


class UserExists(AlreadyExists):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is a user {name!r} already.")


class VouchingNotGranted(PermissionDenied):
    """A password, or a link to an issuer, from somebody who manages access for some names only."""

    def __init__(self) -> None:
        super().__init__(
            "Passwords and links to an issuer are given by those who manage access for everything. "
            "Make a token for the user instead: `titlebout token create NAME --user USER`."
        )


class GrantsTooMuch(PermissionDenied):
    def __init__(self, grants: Iterable[Grant]) -> None:
        super().__init__(f"Nobody gives others more than they have themselves: {', '.join(map(str, grants))}.")


class NobodysUser(PermissionDenied):
    def __init__(self) -> None:
        super().__init__(
            "Whoever gives access for some names only gives each user a grant: without one, who is theirs?"
        )


class LastAdmin(Conflict):
    def __init__(self) -> None:
        super().__init__("Without this user nobody could give access to anybody any more.")


def create_user(
    session: Session,
    name: str,
    *,
    grants: Collection[Grant],
    password_hash: str | None,
    author: str,
    own: Collection[Grant],
    now_ms: int,
) -> User:
    """Add somebody, with *grants* of those whom *author* has, which are *own*.

    Raises:
        InvalidParameter: for a name that isn't one.
        UserExists: if the name is taken.
        GrantsTooMuch: if *own* doesn't cover *grants*.
        VouchingNotGranted: if they are given a password by whoever doesn't manage access for everything.
    """
    check_user_name(name)
    if password_hash is not None:
        ensure_may_vouch(own)
    raise_change_number(session)
    if session.get(UserRow, name) is not None:
        raise UserExists(name)
    if (session.scalar(select(func.count()).select_from(UserRow)) or 0) >= USERS_MAX:
        raise Exhausted(f"There are {USERS_MAX} users, and no room for more.")
    session.add(UserRow(name=name, password_hash=password_hash, created_by=author, created_ms=now_ms))
    session.flush()
    _grant(session, name, grants, author=author, own=own, now_ms=now_ms)
    return get_user(session, name)


def ensure_may_vouch(own: Collection[Grant]) -> None:
    """Look at whether whoever has *own* may give a user a password or a link to an issuer.

    Who knows it has all that the user is granted later, by others too; so it is for those who have everything to give.

    Raises:
        VouchingNotGranted: if not.
    """
    if not scope_of(own, Permission.ACCESS_WRITE).everything:
        raise VouchingNotGranted


def check_user_name(name: str) -> None:
    """Raise `InvalidParameter` unless a user can be called *name*."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter("A user's name has letters, digits and . _ - + @, up to 256 of them.")


def get_user(session: Session, name: str) -> User:
    """The user *name*.

    Raises:
        UserNotFound: if there is none.
    """
    return _user(_row(session, name), _grants_of(session, name))


def get_managed_user(session: Session, name: str, own: Collection[Grant], permission: Permission) -> User:
    """The user *name*, for whoever may see or give access by *own*, which is what *permission* says.

    Raises:
        UserNotFound: if there is none, or none that they have to do with.
    """
    user = get_user(session, name)
    if not may_manage(user.grants, own, permission):
        raise UserNotFound(name)
    return user


def may_manage(grants: Collection[Grant], own: Collection[Grant], permission: Permission) -> bool:
    """Whether whoever has *own* has, by *permission*, to do with somebody who has *grants*.

    Who sees or gives access for some models or experiments does so for those who have nothing beyond these, and nothing
    beyond *own*. Who has nothing at all, and may be given anything, is for those who do it for everything.
    """
    if scope_of(own, permission).everything:
        return True
    return bool(grants) and not beyond([*grants, *_as(permission, grants)], own)


def not_to_give(grants: Collection[Grant], own: Collection[Grant]) -> list[Grant]:
    """Those of *grants* that whoever has *own* can't give: more than they have, or for what they give no access to."""
    gives = scope_of(own, Permission.ACCESS_WRITE)
    is_for_some = bool(gives) and not gives.everything
    return beyond([*grants, *(_as(Permission.ACCESS_WRITE, grants) if is_for_some else [])], own)


def _as(permission: Permission, grants: Iterable[Grant]) -> list[Grant]:
    """*permission*, for all that *grants* are for."""
    return [Grant(permission.value, grant.kind, grant.name, grant.is_prefix) for grant in grants]


def list_users(session: Session, own: Collection[Grant]) -> list[User]:
    """All users whom whoever has *own* sees, by name."""
    granted: dict[str, list[Grant]] = {}
    for row in session.scalars(select(GrantRow)):
        granted.setdefault(row.user_name, []).append(Grant.parse(row.grant))
    users = (_user(row, granted.get(row.name, ())) for row in session.scalars(select(UserRow).order_by(UserRow.name)))
    return [user for user in users if may_manage(user.grants, own, Permission.ACCESS_READ)]


def set_grants(
    session: Session, name: str, grants: Collection[Grant], *, author: str, own: Collection[Grant], now_ms: int
) -> User:
    """Let *name* have *grants* and no others; both those taken and those given must be within *own*.

    Raises:
        UserNotFound: if there is none.
        GrantsTooMuch: if *own* doesn't cover them.
        LastAdmin: if nobody would be left who may change access.
    """
    raise_change_number(session)
    had_admin = has_admin(session)
    managed_row(session, name, own)
    session.execute(delete(GrantRow).where(GrantRow.user_name == name))
    _grant(session, name, grants, author=author, own=own, now_ms=now_ms)
    _ensure_an_admin(session, had_admin=had_admin)
    return get_user(session, name)


def set_password(session: Session, name: str, password_hash: str | None, *, own: Collection[Grant]) -> None:
    """Let *name* sign in by another password, or by none.

    Raises:
        UserNotFound: if there is none.
        GrantsTooMuch: if they may more than *own*, which whoever knows the password would then have.
        VouchingNotGranted: if *own* isn't access for everything.
    """
    raise_change_number(session)
    row = managed_row(session, name, own)
    ensure_may_vouch(own)
    row.password_hash = password_hash


def is_password_hash(session: Session, name: str, password_hash: str | None) -> bool:
    """Whether that is still what is kept of *name*'s password, for who has checked it by an older book.

    Raises:
        UserNotFound: if there is no such user.
    """
    return _row(session, name).password_hash == password_hash


def set_disabled(session: Session, name: str, *, disabled: bool, own: Collection[Grant]) -> User:
    """Turn somebody's access off or on again, with all their tokens.

    Raises:
        UserNotFound: if there is none.
        GrantsTooMuch: if they may more than *own*.
        LastAdmin: if nobody would be left who may change access.
    """
    raise_change_number(session)
    had_admin = has_admin(session)
    managed_row(session, name, own).is_disabled = disabled
    session.flush()
    _ensure_an_admin(session, had_admin=had_admin)
    return get_user(session, name)


def delete_user(session: Session, name: str, *, own: Collection[Grant]) -> None:
    """Remove somebody, with their tokens.

    Raises:
        UserNotFound: if there is none.
        GrantsTooMuch: if they may more than *own*.
        LastAdmin: if nobody would be left who may change access.
    """
    raise_change_number(session)
    had_admin = has_admin(session)
    session.delete(managed_row(session, name, own))
    session.flush()
    _ensure_an_admin(session, had_admin=had_admin)


def has_admin(session: Session) -> bool:
    """Whether anybody is there who may do everything."""
    admins = (
        select(GrantRow.user_name)
        .join(UserRow, UserRow.name == GrantRow.user_name)
        .where(GrantRow.grant == Role.ADMIN.value, UserRow.is_disabled.is_(False))
    )
    return session.scalar(admins.limit(1)) is not None


def _row(session: Session, name: str) -> UserRow:
    row = session.get(UserRow, name)
    if row is None:
        raise UserNotFound(name)
    return row


def managed_row(session: Session, name: str, own: Collection[Grant]) -> UserRow:
    """The row of somebody who is to be changed by whoever has *own*.

    Raises:
        UserNotFound: if there is none that they have to do with.
        GrantsTooMuch, NobodysUser: if they see this one, and can't give what they have.
    """
    row, granted = _row(session, name), _grants_of(session, name)
    if not any(may_manage(granted, own, one) for one in (Permission.ACCESS_READ, Permission.ACCESS_WRITE)):
        raise UserNotFound(name)
    _ensure_givable(granted, own)
    return row


def _grants_of(session: Session, name: str) -> list[Grant]:
    texts = session.scalars(select(GrantRow.grant).where(GrantRow.user_name == name).order_by(GrantRow.grant))
    return [Grant.parse(text) for text in texts]


def _grant(
    session: Session, name: str, grants: Collection[Grant], *, author: str, own: Collection[Grant], now_ms: int
) -> None:
    if len(grants) > _GRANTS_MAX:
        raise InvalidParameter(f"A user has at most {_GRANTS_MAX} grants.")
    _ensure_givable(grants, own)
    session.add_all(
        GrantRow(user_name=name, grant=text, author=author, created_ms=now_ms) for text in sorted(set(map(str, grants)))
    )
    session.flush()


def _ensure_givable(grants: Collection[Grant], own: Collection[Grant]) -> None:
    if too_much := not_to_give(grants, own):
        raise GrantsTooMuch(too_much)
    if not may_manage(grants, own, Permission.ACCESS_WRITE) and not grants:
        raise NobodysUser


def _ensure_an_admin(session: Session, *, had_admin: bool) -> None:
    if had_admin and not has_admin(session):
        raise LastAdmin


def _user(row: UserRow, grants: Iterable[Grant]) -> User:
    return User(
        name=row.name,
        grants=tuple(grants),
        has_password=row.password_hash is not None,
        oidc_subject=row.oidc_subject,
        oidc_awaited=row.oidc_awaited,
        is_disabled=row.is_disabled,
        created_by=row.created_by,
        created_ms=row.created_ms,
    )
