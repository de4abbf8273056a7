"""Who a subject of an issuer is here, and that nobody becomes somebody else by a name."""

import pytest

from tracking.access import subjects, users
from tracking.access.grants import Grant
from tracking.access.subjects import NameOfAnother, NotAdded
from tracking.errors import InvalidParameter, NotFound, PermissionDenied

ADMIN = (Grant("admin"), Grant("scorer"))
VIEWER = (Grant("viewer"),)


@pytest.fixture
def session(database):
    with database.writing() as session:
        yield session


def add(session, name, *grants, password_hash=None):
    return users.create_user(
        session, name, grants=grants, password_hash=password_hash, author="admin", own=ADMIN, now_ms=1
    )


def identify(session, subject, name, grants=VIEWER):
    return subjects.identify_subject(session, subject, name, grants=grants, now_ms=5)


def test_whom_nobody_added_is_added_once_with_what_all_are_granted(session):
    ann = identify(session, "i 1", "ann@example.org")
    assert (ann.grants, ann.created_by, ann.created_ms, ann.oidc_subject) == (VIEWER, "oidc", 5, "i 1")
    assert identify(session, "i 1", "ann@example.org") == ann


def test_what_all_are_granted_may_be_for_a_name(session):
    grants = (Grant.parse("viewer:model:iris-*"),)
    assert identify(session, "i 1", "ann", grants=grants).grants == grants


def test_nobody_is_added_where_nothing_is_granted(session):
    with pytest.raises(NotAdded, match="titlebout user add ann ROLE --oidc"):
        identify(session, "i 1", "ann", grants=())
    assert users.list_users(session, ADMIN) == []


def test_a_subject_stays_who_they_are_under_another_name(session):
    ann = identify(session, "i 1", "ann")
    assert identify(session, "i 1", "ann-by-marriage", grants=()) == ann


def test_a_name_that_is_given_to_another_subject_is_not_theirs_here(session):
    identify(session, "i 1", "ann")
    with pytest.raises(NameOfAnother):
        identify(session, "i 2", "ann")
    with pytest.raises(NameOfAnother):
        identify(session, "other-issuer 1", "ann")


@pytest.mark.parametrize("password_hash", [None, "hash"])
def test_a_user_who_is_there_is_nobodys_until_an_administrator_says_so(session, password_hash):
    add(session, "ann", *VIEWER, password_hash=password_hash)
    with pytest.raises(NameOfAnother):
        identify(session, "i 1", "ann")
    subjects.set_oidc(session, "ann", awaited=True, own=ADMIN)
    assert users.get_user(session, "ann").oidc_awaited
    linked = identify(session, "i 1", "ann", grants=())
    assert (linked.created_by, linked.oidc_subject, linked.oidc_awaited) == ("admin", "i 1", False)
    with pytest.raises(NameOfAnother):
        identify(session, "i 2", "ann")


def test_who_is_unlinked_is_nobody_any_more(session):
    identify(session, "i 1", "ann")
    subjects.set_oidc(session, "ann", awaited=False, own=ADMIN)
    with pytest.raises(NameOfAnother):
        identify(session, "i 1", "ann")


def test_nobody_links_a_user_who_may_more_than_they(session):
    add(session, "boss", *ADMIN)
    with pytest.raises(PermissionDenied):
        subjects.set_oidc(session, "boss", awaited=True, own=(*VIEWER, Grant("access:write")))
    with pytest.raises(NotFound):
        subjects.set_oidc(session, "nobody", awaited=True, own=ADMIN)


@pytest.mark.parametrize("name", ["a b", "<b>", "x" * 257, "nul\0"])
def test_a_name_that_is_none_adds_nobody(session, name):
    with pytest.raises(InvalidParameter):
        identify(session, "i 1", name)
    assert users.list_users(session, ADMIN) == []
