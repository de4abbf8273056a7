"""INSERT … ON CONFLICT, which both databases have, and which is what makes concurrent writers agree."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tracking.schema import Base

DialectInsert: TypeAlias = sqlite.Insert | postgresql.Insert


def insert_new(session: Session, row: type[Base], values: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows that aren't there yet; leave the others as they are."""
    _execute(session, row, values, _do_nothing)


def upsert(session: Session, row: type[Base], values: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows, or overwrite those with the same primary key; of two with one key here, the last counts."""
    _execute(session, row, values, _overwrite)


def upsert_by(session: Session, row: type[Base], values: Sequence[Mapping[str, Any]], clause: "Clause") -> None:
    """Add the rows, doing about those that exist what *clause*, a module's function, makes of the INSERT."""
    _execute(session, row, values, clause)


Clause: TypeAlias = Callable[[DialectInsert, type[Base]], Insert]


def _execute(session: Session, row: type[Base], values: Sequence[Mapping[str, Any]], clause: Clause) -> None:
    if not values:
        return
    statement = _statement(session.get_bind().dialect.name, row, clause)
    key_names = [column.key for column in row.__table__.primary_key]
    # Two transactions that touch the same rows in different order would lock each other out.
    ordered = sorted(values, key=lambda one: tuple(one.get(name, "") for name in key_names))
    session.connection().execute(statement, ordered)


@cache
def _statement(dialect: str, row: type[Base], clause: Clause) -> Insert:
    # Built once: making the statement would cost more than running it.
    insert: DialectInsert = sqlite.insert(row) if dialect == "sqlite" else postgresql.insert(row)
    return clause(insert, row)


def _do_nothing(insert: DialectInsert, _row: type[Base]) -> Insert:
    return insert.on_conflict_do_nothing()


def _overwrite(insert: DialectInsert, row: type[Base]) -> Insert:
    table = row.__table__
    changing = {
        column.name: insert.excluded[column.name]
        for column in table.columns
        if not column.primary_key and column.computed is None
    }
    return insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changing)
