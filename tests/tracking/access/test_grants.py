"""Grants: what they are written as, what they cover, and what they come to for a permission."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select

from tracking.access.grants import EVERYTHING, Grant, Kind, Names, beyond, scope_of
from tracking.access.permissions import PERMISSIONS_OF, Permission, Role
from tracking.errors import InvalidParameter

NAMES = st.text("ab%_", min_size=1, max_size=3)
GRANTS = st.one_of(
    st.sampled_from([Grant(role.value) for role in Role]),
    st.builds(
        Grant,
        st.sampled_from([*(role.value for role in Role), Permission.ALIAS_WRITE.value]),
        st.sampled_from([Kind.MODEL, Kind.EXPERIMENT]),
        NAMES,
        st.booleans(),
    ),
)


@given(GRANTS)
def test_a_grant_is_read_back_as_it_was_written(grant):
    assert Grant.parse(str(grant)) == grant


@pytest.mark.parametrize(
    "text", ["", "king", "viewer:", "viewer:model", "viewer:model:", "viewer:model:*", "viewer:run:a", "public", "self"]
)
def test_what_is_no_grant_is_refused(text):
    with pytest.raises(InvalidParameter, match="is no grant"):
        Grant.parse(text)


@given(st.lists(GRANTS, max_size=4), st.lists(GRANTS, max_size=4), NAMES)
def test_whoever_gives_no_more_than_they_have_lets_nobody_do_more(own, given_grants, name):
    if beyond(given_grants, own):
        return
    for permission in PERMISSIONS_OF[Role.ADMIN]:
        given_scope, own_scope = scope_of(given_grants, permission), scope_of(own, permission)
        assert (name not in given_scope.models) or (name in own_scope.models)
        assert (name not in given_scope.experiments) or (name in own_scope.experiments)


@given(GRANTS, NAMES)
def test_a_grant_reaches_what_its_text_says(grant, name):
    for permission in Permission:
        scope = scope_of([grant], permission)
        may = permission in grant.permissions
        is_named = name.startswith(grant.name) if grant.is_prefix else name == grant.name
        reached = grant.kind is Kind.EVERYTHING or is_named
        assert (name in scope.models) == (may and grant.kind is not Kind.EXPERIMENT and reached)
        assert (name in scope.experiments) == (may and grant.kind is not Kind.MODEL and reached)


@given(st.builds(Names, st.booleans(), st.frozensets(NAMES, max_size=3), st.lists(NAMES, max_size=2).map(tuple)))
def test_the_condition_in_sql_holds_for_the_same_names(names):
    there = ["a", "b", "ab", "a%", "a_", "%", "_b", "abb"]
    with create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("PRAGMA case_sensitive_like = ON")
        table = Table("there", MetaData(), Column("name", String))
        table.create(connection)
        connection.execute(insert(table), [{"name": name} for name in there])
        found = set(connection.scalars(select(table.c.name).where(names.holds(table.c.name))))
    assert found == {name for name in there if name in names}


def test_roles_hold_what_their_names_promise():
    assert scope_of([Grant("admin")], Permission.ACCESS_WRITE) == EVERYTHING
    assert not scope_of([Grant("publisher")], Permission.ALIAS_WRITE)
    assert not scope_of([Grant("viewer")], Permission.SCORE)
    apart = [Permission.ALIAS_WRITE, Permission.SPLIT_WRITE, Permission.GATE_WRITE]
    for permission in apart:
        others = [other for other in apart if other is not permission]
        assert scope_of([Grant(permission.value)], permission)
        assert not any(scope_of([Grant(permission.value)], other) for other in others)
