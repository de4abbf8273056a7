"""Sessions of browsers: rows among the tokens, begun by whoever has found out who is there, and few of each user."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tracking.access.changes import raise_change_number
from tracking.access.schema import TokenRow
from tracking.access.tokens import NewToken, create_token
from tracking.access.users import get_user
from tracking.errors import PermissionDenied

SESSIONS_MAX = 10
"""Of one user; one more ends the oldest, so that nobody is ever kept from signing in by those that are left open."""
_NAME = "browser"


class UserTurnedOff(PermissionDenied):
    def __init__(self, name: str) -> None:
        super().__init__(f"The access of {name} has been turned off.")


def begin_session(session: Session, user: str, *, life_ms: int, now_ms: int) -> NewToken:
    """A session with all that *user* may do, now and later; its secret is what the browser's cookie holds.

    Whoever calls this has made sure that it is *user* who is there. All replicas know the session within seconds.

    Raises:
        UserNotFound: if there is no such user.
        UserTurnedOff: if they may not come in.
    """
    raise_change_number(session)
    found = get_user(session, user)
    if found.is_disabled:
        raise UserTurnedOff(user)
    _end_oldest(session, user)
    return create_token(session, user, _NAME, life_ms=life_ms, now_ms=now_ms, own=found.grants, is_session=True)


def end_session(session: Session, session_id: str) -> None:
    """Sign one browser out; nothing, if it is out already."""
    raise_change_number(session)
    session.execute(delete(TokenRow).where(TokenRow.id == session_id, TokenRow.is_session.is_(True)))


def revoke_sessions(session: Session, user: str) -> None:
    """Sign *user* out of all browsers."""
    raise_change_number(session)
    session.execute(delete(TokenRow).where(TokenRow.user_name == user, TokenRow.is_session.is_(True)))


def _end_oldest(session: Session, user: str) -> None:
    """Leave room for one more."""
    begun = (
        select(TokenRow.id)
        .where(TokenRow.user_name == user, TokenRow.is_session.is_(True))
        .order_by(TokenRow.created_ms.desc(), TokenRow.id)
    )
    session.execute(delete(TokenRow).where(TokenRow.id.in_(list(session.scalars(begun))[SESSIONS_MAX - 1 :])))
