"""Sessions of browsers in the database: begun, ended, and few."""

import pytest

from tracking.access import first_admin, sessions, tokens, users
from tracking.access.book import read_book
from tracking.access.grants import Grant
from tracking.access.secrets import digest_of
from tracking.access.sessions import SESSIONS_MAX
from tracking.access.tokens import DAY_MS, TOKENS_MAX
from tracking.errors import NotFound, PermissionDenied

ADMIN = (Grant("admin"), Grant("scorer"))
VIEWER = Grant("viewer")


@pytest.fixture
def session(database):
    with database.writing() as session:
        first_admin.ensure_admin(session, given="", now_ms=0)
        users.create_user(session, "ann", grants=[VIEWER], password_hash=None, author="admin", own=ADMIN, now_ms=1)
        yield session


def begin(session, now_ms=1):
    return sessions.begin_session(session, "ann", life_ms=DAY_MS, now_ms=now_ms)


def test_a_session_is_known_to_all_has_what_its_user_has_and_is_in_no_list(session):
    made = begin(session)
    assert made.secret.startswith("tbs_")
    known = read_book(session).tokens[digest_of(made.secret)]
    assert (known.user, known.grants, known.is_session, known.expires_ms) == ("ann", (VIEWER,), True, DAY_MS + 1)
    users.set_grants(session, "ann", [Grant("publisher")], author="admin", own=ADMIN, now_ms=2)
    assert read_book(session).tokens[digest_of(made.secret)].grants == (Grant("publisher"),)
    assert tokens.list_tokens(session, "ann") == []


def test_one_too_many_ends_the_oldest_and_takes_no_tokens_place(session):
    for number in range(TOKENS_MAX):
        tokens.create_token(session, "ann", f"t{number}", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    begun = [begin(session, now_ms).secret for now_ms in range(SESSIONS_MAX + 3)]
    known = read_book(session).tokens
    assert [secret for secret in begun if digest_of(secret) in known] == begun[3:]
    assert len(tokens.list_tokens(session, "ann")) == TOKENS_MAX


def test_one_is_ended_or_all(session):
    one, other = begin(session), begin(session)
    token = tokens.create_token(session, "ann", "ci", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    sessions.end_session(session, token.token.id)
    sessions.end_session(session, one.token.id)
    sessions.end_session(session, one.token.id)
    known = read_book(session).tokens
    assert [digest_of(made.secret) in known for made in (one, other, token)] == [False, True, True]
    sessions.revoke_sessions(session, "ann")
    known = read_book(session).tokens
    assert [digest_of(made.secret) in known for made in (other, token)] == [False, True]


def test_who_is_not_there_or_turned_off_begins_none(session):
    with pytest.raises(NotFound):
        sessions.begin_session(session, "nobody", life_ms=DAY_MS, now_ms=1)
    users.set_disabled(session, "ann", disabled=True, own=ADMIN)
    with pytest.raises(PermissionDenied, match="turned off"):
        begin(session)
