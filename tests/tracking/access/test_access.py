"""Users, tokens and scoring keys in the database, and the book that is made of them."""

import pytest

from tracking.access import first_admin, keys, tokens, users
from tracking.access.book import read_book
from tracking.access.grants import Grant
from tracking.access.secrets import digest_of, hash_password, is_password
from tracking.access.tokens import DAY_MS, TOKENS_MAX
from tracking.errors import AlreadyExists, Conflict, Exhausted, InvalidParameter, NotFound, PermissionDenied

ADMIN = (Grant("admin"), Grant("scorer"))
VIEWER = Grant("viewer")


def add(session, name, *grants, own=ADMIN):
    return users.create_user(session, name, grants=grants, password_hash=None, author="admin", own=own, now_ms=1)


@pytest.fixture
def session(database):
    with database.writing() as session:
        first_admin.ensure_admin(session, given="", now_ms=0)
        yield session


def test_the_first_start_makes_an_administrator_and_shows_the_token_once(database):
    with database.writing() as session:
        token = first_admin.ensure_admin(session, given="", now_ms=0)
        assert first_admin.ensure_admin(session, given="", now_ms=1) is None
        book = read_book(session)
    known = book.tokens[digest_of(token)]
    assert (known.user, set(known.grants)) == ("admin", set(ADMIN))
    assert token not in repr(book)


def test_the_token_that_is_given_takes_the_place_of_the_one_before(database):
    first, second = "a" * 32, "b" * 32
    with database.writing() as session:
        assert first_admin.ensure_admin(session, given=first, now_ms=0) is None
        assert first_admin.ensure_admin(session, given=second, now_ms=1) is None
        book = read_book(session)
        with pytest.raises(InvalidParameter, match="fewer than 32"):
            first_admin.ensure_admin(session, given="short", now_ms=2)
    assert list(book.tokens) == [digest_of(second)]


def test_every_change_raises_the_number_that_replicas_poll(session):
    numbers = [read_book(session).number]

    def note():
        numbers.append(read_book(session).number)

    add(session, "ann", VIEWER)
    note()
    made = tokens.create_token(session, "ann", "laptop", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    note()
    tokens.revoke_token(session, made.token.id)
    note()
    keys.create_key(session, "shop", endpoints=["iris"], author="admin", own=ADMIN, now_ms=1)
    note()
    keys.revoke_key(session, "shop", ADMIN)
    note()
    users.set_grants(session, "ann", [], author="admin", own=ADMIN, now_ms=2)
    note()
    users.delete_user(session, "ann", own=ADMIN)
    note()
    assert numbers == sorted(set(numbers))
    tokens.note_used(session, {"x": 5})
    assert read_book(session).number == numbers[-1]


def test_nobody_gives_more_than_they_have(session):
    of_iris = (Grant.parse("admin:model:iris*"),)
    with pytest.raises(PermissionDenied, match="viewer"):
        add(session, "ann", VIEWER, own=of_iris)
    add(session, "bob", Grant.parse("publisher:model:iris-2"), own=of_iris)
    add(session, "cem", VIEWER)
    some = (Grant("access:write"), Grant("scorer"))
    for change in (
        lambda: users.set_grants(session, "cem", [], author="x", own=some, now_ms=1),
        lambda: users.set_disabled(session, "cem", disabled=True, own=some),
        lambda: users.delete_user(session, "cem", own=some),
        lambda: tokens.create_token(session, "bob", "t", life_ms=1, now_ms=1, own=of_iris, scope=[VIEWER]),
    ):
        with pytest.raises(PermissionDenied, match="more than they have"):
            change()


def test_a_token_never_outreaches_its_user_nor_its_maker(session):
    add(session, "ann", Grant("publisher"))
    narrow = tokens.create_token(session, "ann", "ci", life_ms=DAY_MS, now_ms=1, own=ADMIN, scope=[VIEWER])
    wide = tokens.create_token(session, "ann", "laptop", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    book = read_book(session)
    assert book.tokens[digest_of(narrow.secret)].grants == (VIEWER,)
    assert book.tokens[digest_of(wide.secret)].grants == (Grant("publisher"),)
    # What is taken from the user is taken from the tokens.
    users.set_grants(session, "ann", [Grant.parse("viewer:model:iris")], author="admin", own=ADMIN, now_ms=2)
    book = read_book(session)
    assert book.tokens[digest_of(narrow.secret)].grants == ()
    assert book.tokens[digest_of(wide.secret)].grants == (Grant.parse("viewer:model:iris"),)


def test_a_token_with_a_scope_leaves_nothing_behind_that_may_more_or_lives_longer(session):
    add(session, "ann", VIEWER)
    narrow = tokens.create_token(session, "ann", "ci", life_ms=DAY_MS, now_ms=1, own=ADMIN, scope=[VIEWER])
    shown = {"own": [VIEWER], "asked_with": narrow.token.id}
    # What it is made for is all that its user may, today.
    made = tokens.create_token(session, "ann", "t", life_ms=300 * DAY_MS, now_ms=1000, **shown)
    assert (made.token.scope, made.token.expires_ms) == ((VIEWER,), narrow.token.expires_ms)
    users.set_grants(session, "ann", [Grant("publisher")], author="admin", own=ADMIN, now_ms=2000)
    assert read_book(session).tokens[digest_of(made.secret)].grants == (VIEWER,)
    with pytest.raises(PermissionDenied, match="more than they have"):
        tokens.create_token(session, "ann", "t", life_ms=DAY_MS, now_ms=2000, **shown)
    # Taken back while a worker still knows it, or over.
    with pytest.raises(PermissionDenied, match="expired"):
        tokens.create_token(session, "ann", "t", life_ms=1, now_ms=DAY_MS + 1, scope=[VIEWER], **shown)
    tokens.revoke_token(session, narrow.token.id)
    with pytest.raises(PermissionDenied, match="revoked"):
        tokens.create_token(session, "ann", "t", life_ms=1, now_ms=2000, scope=[VIEWER], **shown)


def test_a_token_with_a_scope_revokes_none_that_may_more(session):
    add(session, "ann", Grant("publisher"))
    wide, narrow, narrower = (
        tokens.create_token(session, "ann", "t", life_ms=DAY_MS, now_ms=1, own=ADMIN, scope=scope).token
        for scope in (None, [VIEWER], [])
    )
    for one in (narrow, narrower):
        tokens.ensure_may_revoke(session, one, narrow.id, 1)
    for one in (wide, narrow, narrower):
        tokens.ensure_may_revoke(session, one, wide.id, 1)
        # By a password, or by a proxy's word.
        tokens.ensure_may_revoke(session, one, None, 1)
    for one, shown in ((wide, narrow), (narrow, narrower)):
        with pytest.raises(PermissionDenied, match="one that may more"):
            tokens.ensure_may_revoke(session, one, shown.id, 1)


def test_who_is_disabled_has_no_token_and_is_known_by_name(session):
    add(session, "ann", VIEWER)
    made = tokens.create_token(session, "ann", "laptop", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    users.set_disabled(session, "ann", disabled=True, own=ADMIN)
    book = read_book(session)
    assert digest_of(made.secret) not in book.tokens
    assert "ann" not in book.users
    assert book.disabled == {"ann"}
    users.set_disabled(session, "ann", disabled=False, own=ADMIN)
    assert digest_of(made.secret) in read_book(session).tokens


def test_the_last_administrator_stays(session):
    with pytest.raises(Conflict), session.begin_nested():
        users.delete_user(session, "admin", own=ADMIN)
    add(session, "ann", Grant("admin"))
    users.delete_user(session, "admin", own=ADMIN)
    for change in (
        lambda: users.set_disabled(session, "ann", disabled=True, own=ADMIN),
        lambda: users.set_grants(session, "ann", [VIEWER], author="ann", own=ADMIN, now_ms=1),
    ):
        with pytest.raises(Conflict, match="nobody could give access"), session.begin_nested():
            change()


def test_names_lives_and_numbers_have_bounds(session):
    for name in ("", "a b", "a:b", "x" * 257):
        with pytest.raises(InvalidParameter):
            add(session, name)
    with pytest.raises(AlreadyExists):
        add(session, "admin")
    add(session, "ann", VIEWER)
    for life_ms in (0, -1, 367 * DAY_MS):
        with pytest.raises(InvalidParameter, match="days"):
            tokens.create_token(session, "ann", "t", life_ms=life_ms, now_ms=1, own=ADMIN)
    for number in range(TOKENS_MAX):
        tokens.create_token(session, "ann", f"t{number}", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    with pytest.raises(Exhausted):
        tokens.create_token(session, "ann", "t", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    with pytest.raises(NotFound):
        tokens.create_token(session, "nobody", "t", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    with pytest.raises(NotFound):
        tokens.revoke_token(session, "0" * 16)
    for given in (
        {"endpoints": []},
        {"endpoints": [""]},
        {"endpoints": ["a"], "rate": 0},
        {"endpoints": ["a"], "rate": -1},
    ):
        with pytest.raises(InvalidParameter):
            keys.create_key(session, "k", author="admin", own=ADMIN, now_ms=1, **given)
    keys.create_key(session, "k", endpoints=["a"], author="admin", own=ADMIN, now_ms=1)
    with pytest.raises(AlreadyExists):
        keys.create_key(session, "k", endpoints=["b"], author="admin", own=ADMIN, now_ms=1)
    with pytest.raises(NotFound):
        keys.revoke_key(session, "other", ADMIN)


def test_the_newest_use_is_kept(session):
    add(session, "ann", VIEWER)
    made = tokens.create_token(session, "ann", "laptop", life_ms=DAY_MS, now_ms=1, own=ADMIN)
    for used_ms in (50, 70, 60):
        tokens.note_used(session, {made.token.id: used_ms})
    session.expire_all()
    assert tokens.get_token(session, made.token.id).last_used_ms == 70


def test_passwords_are_hashed_slowly_and_short_ones_refused():
    hashed = hash_password("correct horse battery")
    assert hashed.startswith("$argon2id$")
    assert is_password("correct horse battery", hashed)
    assert not is_password("wrong", hashed)
    assert not is_password("correct horse battery", None)
    for password in ("short", "x" * 1025):
        with pytest.raises(InvalidParameter):
            hash_password(password)
