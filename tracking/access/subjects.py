"""Users whom an OpenID Connect issuer vouches for: known by what the issuer never gives to another, not by a name."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from tracking.access.changes import raise_change_number
from tracking.access.entities import User
from tracking.access.grants import Grant
from tracking.access.schema import UserRow
from tracking.access.users import check_user_name, create_user, ensure_may_vouch, get_user, managed_row
from tracking.errors import PermissionDenied

_AUTHOR = "oidc"


class NotAdded(PermissionDenied):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"Nobody has added {name!r} here. An administrator can: titlebout user add {name} ROLE --oidc."
        )


class NameOfAnother(PermissionDenied):
    """The same words whoever has the name, and by whatever they sign in."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The user {name!r} isn't linked to this account. If it is yours, an administrator can link it: "
            f"titlebout user oidc {name}."
        )


def subject_key(issuer: str, subject: str) -> str:
    """What is kept of a subject, which is one only among those of its issuer."""
    return f"{issuer} {subject}"


def identify_subject(session: Session, subject: str, name: str, *, grants: Collection[Grant], now_ms: int) -> User:
    """The user who *subject* is, whatever the issuer calls them by now.

    One whom it calls *name* and who hasn't been here is added, with *grants*, if there are any. A user who is there
    already is linked if an administrator has said so, and else stays who they are.

    Raises:
        NotAdded: if nobody has, and nothing is granted to those.
        NameOfAnother: if there is a user *name*, and nobody has linked them.
        InvalidParameter: if *name* can't be a user's.
    """
    # Also the lock by which two first visits of one subject come one after the other.
    raise_change_number(session)
    known = session.scalar(select(UserRow.name).where(UserRow.oidc_subject == subject))
    if known is not None:
        return get_user(session, known)
    check_user_name(name)
    row = session.get(UserRow, name)
    if row is None:
        if not grants:
            raise NotAdded(name)
        create_user(session, name, grants=grants, password_hash=None, author=_AUTHOR, own=grants, now_ms=now_ms)
        row = session.get_one(UserRow, name)
    elif not row.oidc_awaited:
        raise NameOfAnother(name)
    row.oidc_subject, row.oidc_awaited = subject, False
    session.flush()
    return get_user(session, name)


def set_oidc(session: Session, name: str, *, awaited: bool, own: Collection[Grant]) -> User:
    """Let *name* be whoever the issuer calls so first, or nobody of the issuer's; who they were is forgotten.

    Raises:
        UserNotFound: if there is none.
        GrantsTooMuch: if they may more than *own*, which whoever the issuer sends would then have.
        VouchingNotGranted: if *own* isn't access for everything.
    """
    raise_change_number(session)
    row = managed_row(session, name, own)
    ensure_may_vouch(own)
    row.oidc_subject, row.oidc_awaited = None, awaited
    session.flush()
    return get_user(session, name)
