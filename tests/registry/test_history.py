"""The history: what is in it, by which name and instant it is asked, and that nobody alters it unseen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from registry import aliases, endpoints, history, models, pins, versions
from registry.chain import FIRST, Break, Link, follow, link_hash
from registry.entities import Action, HistoryEntry
from registry.errors import AliasMeantNothing, RegisteredModelNotFound

NOW = 1_700_000_000_000


@pytest.fixture
def session(database, iris, add_version):
    for _ in range(3):
        add_version()
    with database.writing() as session:
        yield session


def set_alias(session, alias, version, *, at=NOW, name="iris", author="ann", reason=None):
    aliases.set_alias(session, name, alias, version, author=author, now_ms=at, reason=reason)


def rename(session, name, new_name, *, at=NOW):
    models.rename_model(session, name, new_name, author="ann", now_ms=at)


def told(session, model="iris", **options):
    """(action, alias, version) of each entry, the oldest first."""
    found = history.list_history(session, model, **options).items
    return [(entry.action, entry.alias, entry.version) for entry in reversed(found)]


def test_each_change_of_what_is_served_says_who_when_and_why(session):
    set_alias(session, "champion", 1, reason="0.93 on the holdout")
    set_alias(session, "champion", 1)  # It means that already.
    set_alias(session, "challenger", 2)
    endpoints.change_split(
        session, "iris", {"champion": 9_000, "challenger": 1_000}, author="bob", now_ms=NOW + 5, reason="a tenth"
    )
    set_alias(session, "champion", 2)
    aliases.delete_alias(session, "iris", "challenger", author="bob", now_ms=NOW)
    pins.pin(session, "iris", 3, author="bob", now_ms=NOW)
    pins.pin(session, "iris", 3, author="bob", now_ms=NOW)
    pins.unpin(session, "iris", 3, author="bob", now_ms=NOW)
    pins.unpin(session, "iris", 3, author="bob", now_ms=NOW)
    versions.delete_version(session, "iris", 3, author="bob", now_ms=NOW)
    for _ in range(2):
        endpoints.stop_endpoint(session, "iris", author="bob", now_ms=NOW)
    set_alias(session, "champion", 1)
    endpoints.rename_endpoint(session, "iris", "flowers", author="bob", now_ms=NOW)
    assert told(session) == [
        ("alias_set", "champion", 1),
        ("split_changed", None, None),
        ("alias_set", "challenger", 2),
        ("split_changed", None, None),
        ("split_changed", None, None),
        ("alias_set", "champion", 2),
        ("split_changed", None, None),
        ("alias_deleted", "challenger", None),
        ("split_changed", None, None),
        ("pinned", None, 3),
        ("unpinned", None, 3),
        ("version_deleted", None, 3),
        ("endpoint_stopped", None, None),
        ("alias_set", "champion", 1),
        ("endpoint_started", None, None),
        ("endpoint_renamed", None, None),
    ]
    found = history.list_history(session, "iris").items[::-1]
    assert (found[0].author, found[0].at_ms, found[0].reason) == ("ann", NOW, "0.93 on the holdout")
    assert (found[4].author, found[4].at_ms, found[4].reason) == ("bob", NOW + 5, "a tenth")
    shares = {"champion": 9_000, "challenger": 1_000}
    assert found[4].details == {"endpoint": "iris", "period": 3, "shares_bp": shares}
    assert found[5].details == {"before": 1}
    assert told(session, alias="challenger") == [("alias_set", "challenger", 2), ("alias_deleted", "challenger", None)]


def test_what_was_taken_back_is_in_no_history(session):
    savepoint = session.begin_nested()
    set_alias(session, "champion", 1)
    savepoint.rollback()
    set_alias(session, "champion", 2)
    assert told(session) == [("alias_set", "champion", 2), ("split_changed", None, None)]
    assert history.verify(session, limit=10) == history.head(session)


def test_a_model_is_told_of_under_its_former_names_until_it_had_them_no_more(session):
    set_alias(session, "staging", 1)
    rename(session, "iris", "lily")
    models.create_model(session, "iris", now_ms=NOW)
    set_alias(session, "staging", 2, name="lily")
    rename(session, "lily", "rose")
    models.delete_model(session, "iris", author="bob", now_ms=NOW)
    assert [(e.model, e.action, e.version) for e in history.list_history(session, "rose").items[::-1]] == [
        ("iris", "alias_set", 1),
        ("lily", "model_renamed", None),
        ("lily", "alias_set", 2),
        ("rose", "model_renamed", None),
    ]
    # What had the name is told of by it, though it is gone.
    assert told(session, "iris")[-1] == ("model_deleted", None, None)
    with pytest.raises(RegisteredModelNotFound):
        history.list_history(session, "tulip")


def test_an_alias_at_an_instant_is_what_it_meant_then(session):
    set_alias(session, "champion", 1, at=NOW + 10)
    set_alias(session, "champion", 2, at=NOW + 20)
    rename(session, "iris", "lily", at=NOW + 30)
    set_alias(session, "champion", 3, at=NOW + 40, name="lily")
    aliases.delete_alias(session, "lily", "champion", author="ann", now_ms=NOW + 50)

    def at(instant, name="lily", alias="champion"):
        return history.version_at(session, name, alias, NOW + instant)

    assert [at(10), at(19), at(20), at(35), at(40), at(49)] == [1, 1, 2, 2, 3, 3]
    assert [at(10, "iris"), at(29, "iris")] == [1, 2]
    for instant, name, alias in [(9, "lily", "champion"), (50, "lily", "champion"), (30, "iris", "champion"),
                                 (40, "lily", "staging"), (40, "tulip", "champion")]:  # fmt: skip
        with pytest.raises(AliasMeantNothing):
            at(instant, name, alias)


def test_a_name_that_is_given_again_means_the_new_model_from_then_on(session):
    set_alias(session, "staging", 1, at=NOW + 10)
    models.delete_model(session, "iris", author="ann", now_ms=NOW + 20)
    models.create_model(session, "other", now_ms=NOW)
    rename(session, "other", "iris", at=NOW + 30)
    assert history.version_at(session, "iris", "staging", NOW + 15) == 1
    for instant in (20, 30):
        with pytest.raises(AliasMeantNothing):
            history.version_at(session, "iris", "staging", NOW + instant)


def test_pages_of_a_history_stay_right_while_it_grows(session):
    for turn in range(4):
        set_alias(session, "staging", 1 + turn % 2)
    page = history.list_history(session, "iris", max_results=2)
    set_alias(session, "staging", 3)
    rest = history.list_history(session, "iris", max_results=2, page_token=page.next_page_token)
    assert [entry.seq for entry in (*page.items, *rest.items)] == [4, 3, 2, 1]
    assert rest.next_page_token is None


def test_the_database_refuses_to_alter_it(session):
    set_alias(session, "staging", 1)
    for statement in ("UPDATE history SET author = 'eve'", "DELETE FROM history WHERE seq = 1"):
        with pytest.raises(DatabaseError, match="never altered"), session.begin_nested():
            session.execute(text(statement))
    assert len(told(session)) == 1


def unprotect(session, database):
    """As somebody does who may do anything with the database."""
    for name in ("history_no_update", "history_no_delete") if database.is_sqlite else ("history_is_kept",):
        session.execute(text(f"DROP TRIGGER {name}" + ("" if database.is_sqlite else " ON history")))


SAID = "at_ms, author, action, model, alias, version, reason, details, hash FROM history"
COPIED = f"INSERT INTO history (seq, {SAID.removesuffix(' FROM history')})"


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE history SET author = 'eve' WHERE seq = 3", 3),
        ("UPDATE history SET at_ms = at_ms + 1 WHERE seq = 1", 1),
        ("UPDATE history SET details = '{}' WHERE seq = 2", 2),
        ("UPDATE history SET reason = 'none' WHERE seq = 4", 4),
        ("DELETE FROM history WHERE seq = 2", 2),
        ("UPDATE history SET seq = 50 WHERE seq = 4", 4),
        ("UPDATE history SET details = 'no JSON' WHERE seq = 3", 3),
        ("UPDATE history SET details = '[]' WHERE seq = 3", 3),
        ("UPDATE history SET details = '{\"more\": 1}' WHERE seq = 3", 3),
        (f"{COPIED} SELECT 5, {SAID} WHERE seq = 4", 5),
        (f"{COPIED} SELECT 0, {SAID} WHERE seq = 4", 0),
        (f"{COPIED} SELECT -7, {SAID} WHERE seq = 4", -7),
    ],
)
def test_the_first_entry_that_was_altered_is_named(database, session, statement, broken):
    for turn in range(4):
        set_alias(session, "staging", 1 + turn % 2)
    newest = history.head(session)
    assert history.verify(session, limit=100) == newest
    unprotect(session, database)
    session.execute(text(statement))
    found = history.verify(session, limit=100)
    assert isinstance(found, Break)
    assert found.seq == broken
    assert history.list_history(session, "iris").items
    session.rollback()


def test_a_history_is_verified_piece_by_piece(session):
    for turn in range(5):
        set_alias(session, "staging", 1 + turn % 2)
    first = history.verify(session, limit=2)
    assert first.seq == 2
    assert history.verify(session, after=first, limit=100) == history.head(session)
    assert history.verify(session, after=Link(2, "0" * 64), limit=1) == Break(2, "isn't what was noted")
    assert history.verify(session, after=Link(6, history.head(session).hash), limit=1).seq == 6


ENTRIES = st.lists(
    st.builds(
        HistoryEntry,
        seq=st.just(0),
        at_ms=st.integers(0, 2**53),
        author=st.text(max_size=5),
        action=st.sampled_from(list(Action)),
        model=st.text(max_size=5),
        alias=st.none() | st.text(max_size=3),
        version=st.none() | st.integers(1, 9),
        reason=st.none() | st.text(max_size=5),
        details=st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
        hash=st.just(""),
    ),
    min_size=1,
    max_size=6,
)


OTHERS = [
    ("author", "x" * 6), ("at_ms", -1), ("alias", "x" * 4), ("reason", "x" * 6), ("version", 10),
    ("details", {"x" * 4: 1}), ("model", "x" * 6),
]  # fmt: skip


@given(entries=ENTRIES, data=st.data())
def test_no_entry_is_altered_taken_out_or_put_elsewhere_unseen(entries, data):
    chained, before = [], FIRST
    for seq, entry in enumerate(entries, start=1):
        numbered = replace(entry, seq=seq)
        before = Link(seq, link_hash(before.hash, numbered))
        chained.append(replace(numbered, hash=before.hash))
    assert follow(chained) == before
    place = data.draw(st.integers(0, len(chained) - 1))
    field, value = data.draw(st.sampled_from(OTHERS))
    altered = [*chained]
    altered[place] = replace(chained[place], **{field: value})
    assert follow(altered).seq == place + 1
    # With its own hash put right, the next one gives it away; the last one by the head that somebody noted.
    own_hash = link_hash(chained[place - 1].hash if place else FIRST.hash, altered[place])
    altered[place] = replace(altered[place], hash=own_hash)
    found = follow(altered)
    assert found.seq == place + 2 if place + 1 < len(chained) else found != before
    without = chained[:place] + chained[place + 1 :]
    if place + 1 < len(chained):
        assert follow(without).seq == place + 1
