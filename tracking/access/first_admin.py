"""The way in: an administrator, where there is nobody yet."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from tracking.access.changes import raise_change_number
from tracking.access.grants import Grant
from tracking.access.permissions import Role
from tracking.access.schema import TokenRow, UserRow
from tracking.access.secrets import digest_of
from tracking.access.tokens import DAY_MS, LIFE_DAYS_MAX, create_token
from tracking.access.users import ADMIN, create_user, has_admin, set_disabled, set_grants
from tracking.errors import InvalidParameter

SECRET_LENGTH_MIN = 32
_EVERYTHING = (Grant(Role.ADMIN.value), Grant(Role.SCORER.value))
_FIRST = "first start"
_GIVEN = "TITLEBOUT_ADMIN_TOKEN"


class AdminTokenWeak(InvalidParameter):
    def __init__(self) -> None:
        super().__init__(f"{_GIVEN} has fewer than {SECRET_LENGTH_MIN} characters; `openssl rand -hex 32` makes one.")


def ensure_admin(session: Session, *, given: str, now_ms: int) -> str | None:
    """Have somebody who may give access: by the token *given*, if there is one, else by a new one if there is nobody.

    Returns:
        The new token, to be shown once; None if none was made.

    Raises:
        AdminTokenWeak: if *given* could be guessed.
    """
    raise_change_number(session)
    if given and len(given) < SECRET_LENGTH_MIN:
        raise AdminTokenWeak
    is_missing = not has_admin(session)
    if is_missing:
        _add_admin(session, now_ms)
    if given:
        _take_over(session, given, now_ms)
        return None
    if not is_missing:
        return None
    life_ms = LIFE_DAYS_MAX * DAY_MS
    return create_token(session, ADMIN, _FIRST, life_ms=life_ms, now_ms=now_ms, own=_EVERYTHING).secret


def _add_admin(session: Session, now_ms: int) -> None:
    if session.get(UserRow, ADMIN) is None:
        create_user(
            session, ADMIN, grants=_EVERYTHING, password_hash=None, author=ADMIN, own=_EVERYTHING, now_ms=now_ms
        )
        return
    # Somebody made one while nobody had to sign in, and with less.
    set_disabled(session, ADMIN, disabled=False, own=_EVERYTHING)
    set_grants(session, ADMIN, _EVERYTHING, author=ADMIN, own=_EVERYTHING, now_ms=now_ms)


def _take_over(session: Session, given: str, now_ms: int) -> None:
    """Have *given* be a token of the administrator's, in the place of what was given at an earlier start."""
    row = session.scalar(select(TokenRow).where(TokenRow.user_name == ADMIN, TokenRow.name == _GIVEN))
    if row is None:
        life_ms = LIFE_DAYS_MAX * DAY_MS
        create_token(session, ADMIN, _GIVEN, life_ms=life_ms, now_ms=now_ms, own=_EVERYTHING, secret=given)
        return
    row.digest, row.beginning = digest_of(given), ""
    row.expires_ms = now_ms + LIFE_DAYS_MAX * DAY_MS
    session.flush()
