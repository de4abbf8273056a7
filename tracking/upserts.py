"""INSERT … ON CONFLICT, which both databases have, and which is what makes concurrent writers agree."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import JSON, Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
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
    connection = session.connection()
    # Two transactions that touch the same rows in different order would lock each other out.
    ordered = sorted(values, key=_place(row, values[0].keys())) if len(values) > 1 else list(values)
    text = _text(connection.dialect.name, row, clause, tuple(ordered[0]))
    if text is None:
        connection.execute(_statement(connection.dialect.name, row, clause), ordered)
    elif text.positions is None:
        connection.exec_driver_sql(text.sql, ordered)
    else:
        connection.exec_driver_sql(text.sql, list(map(text.positions, ordered)))


def _place(row: type[Base], given: AbstractSet[str]) -> Callable[[Mapping[str, Any]], Any]:
    """What to order rows by: their primary key, or nothing where the database numbers them."""
    names = [column.key for column in row.__table__.primary_key if column.key in given]
    return itemgetter(*names) if names else lambda _: 0


@cache
def _statement(dialect: str, row: type[Base], clause: Clause) -> Insert:
    # Built once: making the statement would cost more than running it.
    insert: DialectInsert = sqlite.insert(row) if dialect == "sqlite" else postgresql.insert(row)
    return clause(insert, row)


class _Text(NamedTuple):
    """A statement as the driver takes it."""

    sql: str
    # Makes a row's parameters of its values by name; None where the driver takes them by name itself.
    positions: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None


@cache
def _text(dialect: str, row: type[Base], clause: Clause, names: tuple[str, ...]) -> _Text | None:
    """The statement for rows of *names*, to go past SQLAlchemy: for a hundred points that halves what they cost.

    None where SQLAlchemy has something to add to the values: a default, or a conversion.
    """
    columns = row.__table__.columns
    speaks = sqlite.dialect() if dialect == "sqlite" else psycopg.dialect()  # type: ignore[no-untyped-call]  # theirs
    compiled = _statement(dialect, row, clause).compile(dialect=speaks, column_keys=list(names))
    converted = any(isinstance(columns[name].type, JSON) for name in names)
    if converted or compiled.params.keys() != set(names):
        return None
    positions = compiled.positiontup
    return _Text(compiled.string, itemgetter(*positions) if positions else None)


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
