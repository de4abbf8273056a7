"""Users and keys, as whoever manages access for some names only has to do with them."""

import re

import pytest

from tracking.access import first_admin, keys, subjects, users
from tracking.access.grants import Grant
from tracking.access.permissions import Permission
from tracking.errors import Conflict, NotFound

ADMIN = (Grant("admin"), Grant("scorer"))
MANAGER = tuple(map(Grant.parse, ("admin:model:iris-*", "admin:experiment:iris", "viewer:model:near")))


def add(session, name, *grants, own=ADMIN):
    return users.create_user(session, name, grants=grants, password_hash=None, author="admin", own=own, now_ms=1)


@pytest.fixture
def session(database):
    with database.writing() as session:
        first_admin.ensure_admin(session, given="", now_ms=0)
        yield session


@pytest.fixture
def others(session):
    add(session, "ann", Grant.parse("viewer:model:iris-1"), Grant.parse("viewer:experiment:iris"))
    add(session, "bob", Grant.parse("viewer:model:iris-1"), Grant.parse("viewer:model:wine"))
    add(session, "eve", Grant("viewer"))
    # Who may see a model may not have others see it.
    add(session, "fay", Grant.parse("viewer:model:near"))
    add(session, "new")
    for name, endpoints in (("near", ["iris-1", "iris-a*"]), ("far", ["iris-1", "wine"]), ("wide", ["*"])):
        keys.create_key(session, name, endpoints=endpoints, author="admin", own=ADMIN, now_ms=1)


def test_who_manages_access_for_some_names_sees_those_who_have_nothing_else(session, others):
    assert [user.name for user in users.list_users(session, MANAGER)] == ["ann"]
    assert [key.name for key in keys.list_keys(session, MANAGER)] == ["near"]
    assert len(users.list_users(session, (Grant("access:read"),))) == 6
    assert len(keys.list_keys(session, (Grant("access:read"),))) == 3


def test_all_others_are_to_them_as_if_they_were_not_there(session, others):
    for name in ("bob", "eve", "fay", "new", "admin", "nobody"):
        for change in (
            lambda name: users.get_managed_user(session, name, MANAGER, Permission.ACCESS_READ),
            lambda name: users.set_grants(session, name, MANAGER, author="m", own=MANAGER, now_ms=2),
            lambda name: users.set_password(session, name, "x", own=MANAGER),
            lambda name: users.set_disabled(session, name, disabled=True, own=MANAGER),
            lambda name: users.delete_user(session, name, own=MANAGER),
            lambda name: subjects.set_oidc(session, name, awaited=True, own=MANAGER),
        ):
            with pytest.raises(users.UserNotFound, match=f"no user '{name}'"):
                change(name)
    for name in ("far", "wide", "nobody"):
        with pytest.raises(NotFound, match=f"no scoring key '{name}'"):
            keys.revoke_key(session, name, MANAGER)
    keys.revoke_key(session, "near", MANAGER)
    users.delete_user(session, "ann", own=MANAGER)


def test_whom_they_see_and_may_not_give_access_is_refused_by_name(session, others):
    own = (Grant("access:read"), *MANAGER)
    for name in ("bob", "eve", "admin"):
        with pytest.raises(users.GrantsTooMuch):
            users.set_disabled(session, name, disabled=True, own=own)
    with pytest.raises(users.NobodysUser):
        users.set_disabled(session, "new", disabled=True, own=own)
    assert users.set_disabled(session, "ann", disabled=True, own=own).is_disabled


def test_they_give_what_they_have_and_no_user_without_a_grant(session):
    add(session, "ann", Grant.parse("publisher:model:iris-1"), own=MANAGER)
    for beyond in (
        "viewer",
        "viewer:model:iri*",
        "viewer:model:wine",
        "viewer:experiment:i",
        "access:write:model:near",
    ):
        with pytest.raises(users.GrantsTooMuch, match=re.escape(beyond)), session.begin_nested():
            add(session, "bob", Grant.parse(beyond), own=MANAGER)
    with pytest.raises(users.GrantsTooMuch, match="access:write:model:near"), session.begin_nested():
        add(session, "bob", Grant.parse("viewer:model:near"), own=MANAGER)
    with pytest.raises(users.NobodysUser), session.begin_nested():
        add(session, "cat", own=MANAGER)
    with pytest.raises(users.NobodysUser), session.begin_nested():
        users.set_grants(session, "ann", (), author="m", own=MANAGER, now_ms=2)


@pytest.mark.parametrize(
    ("endpoints", "own"),
    [
        (["*"], MANAGER),
        (["iris*"], MANAGER),
        (["iris-1", "wine"], MANAGER),
        (["iris-1"], (Grant("access:write"), Grant("viewer"))),
    ],
)
def test_a_key_asks_no_more_than_its_maker_may(session, endpoints, own):
    with pytest.raises(users.GrantsTooMuch, match="score"):
        keys.create_key(session, "k", endpoints=endpoints, author="m", own=own, now_ms=1)


def test_a_key_says_which_arm_answers_only_if_its_maker_may(session):
    scorer = tuple(map(Grant.parse, ("scorer:model:iris-*", "access:write:model:iris-*")))
    keys.create_key(session, "plain", endpoints=["iris-*"], author="m", own=scorer, now_ms=1)
    for named in ("may_force", "may_pin"):
        with pytest.raises(users.GrantsTooMuch, match="score:forced:model:iris-"):
            keys.create_key(session, "k", endpoints=["iris-1"], author="m", own=scorer, now_ms=1, **{named: True})


def test_who_administers_some_names_is_no_administrator_to_be_the_last(session):
    add(session, "ann", Grant.parse("admin:model:a*"), Grant.parse("admin:experiment:b*"))
    with pytest.raises(Conflict), session.begin_nested():
        users.set_grants(session, "admin", [Grant.parse("admin:model:a*")], author="admin", own=ADMIN, now_ms=2)
    with pytest.raises(Conflict), session.begin_nested():
        users.delete_user(session, "admin", own=ADMIN)


def test_who_manages_access_for_some_names_gives_nobody_a_password_or_a_link(session, others):
    """Who knows it would have what an administrator grants its user later."""
    for vouch in (
        lambda: users.set_password(session, "ann", "hash", own=MANAGER),
        lambda: subjects.set_oidc(session, "ann", awaited=True, own=MANAGER),
        lambda: users.create_user(
            session,
            "ceo",
            grants=[Grant.parse("viewer:model:iris-1")],
            password_hash="hash",
            author="m",
            own=MANAGER,
            now_ms=2,
        ),
    ):
        with pytest.raises(users.VouchingNotGranted, match="titlebout token create"):
            vouch()
    assert not users.get_user(session, "ann").has_password
    with pytest.raises(NotFound):
        users.get_user(session, "ceo")
    users.set_password(session, "ann", "hash", own=(Grant("access:write"), *ADMIN))
