"""Tables as files of lines, the same from SQLite and from PostgreSQL.

A line is a row: a JSON array of its values, in the order of the columns that the manifest names. Columns that the
database computes are left out. The tables are read from the database itself and not from the schema, so that a backup
of an older release can be loaded as that release had them, and then migrated.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SAWarning

from registry.schema import ReplicaRow
from tracking.errors import ErrorCode, ServingError
from tracking.schema import Base

REVISIONS = "alembic_version"
"""Where Alembic keeps the revision; the backup's manifest says it instead."""

# Who is alive now is no part of what was.
_LEFT_OUT = frozenset({ReplicaRow.__tablename__})

_ROWS_AT_ONCE = 1_000
_DIGEST_MODULUS = 2**256


class TableNotPortable(ServingError):
    """A value or a column that the format has no place for: a bug of ours."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, table: str, column: str, wrong: str) -> None:
        super().__init__(f"The column {column!r} of table {table!r} can't be backed up: {wrong}.")


class TableFile(msgspec.Struct, frozen=True, kw_only=True):
    """One table in a backup."""

    name: str
    columns: tuple[str, ...]
    rows: int
    size: int
    """Bytes of the file."""
    sha256: str
    """Of the file."""
    content: str
    """The sum of the SHA-256 of each line (without its line feed), modulo 2^256, in 64 hexadecimal digits: equal for
    the same rows in any order."""


def our_tables(connection: Connection) -> list[Table]:
    """The tables of Titlebout's that the database has, each after those it refers to."""
    present = set(inspect(connection).get_table_names())
    metadata = MetaData()
    with warnings.catch_warnings():
        # Indexes, which some databases can't tell of in full; only columns and keys matter here.
        warnings.simplefilter("ignore", SAWarning)
        metadata.reflect(connection, only=sorted(present & Base.metadata.tables.keys()))
    return metadata.sorted_tables


def backed_up(tables: Iterable[Table]) -> list[Table]:
    return [table for table in tables if table.name not in _LEFT_OUT]


def dump_table(connection: Connection, table: Table, file: Path) -> TableFile:
    """Write every row of *table* to *file*, a few at a time."""
    with file.open("wb") as output:
        return write_lines(table.name, _names(table), _lines(connection, table), output.write)


def digest_table(connection: Connection, table: Table) -> TableFile:
    """What `dump_table` would say, without a file."""
    return write_lines(table.name, _names(table), _lines(connection, table), lambda _: None)


def write_lines(
    name: str, columns: tuple[str, ...], lines: Iterable[bytes], write: Callable[[bytes], object]
) -> TableFile:
    """Hand each of *lines* to *write*, and say what there was."""
    sha256, content, rows, size = hashlib.sha256(), 0, 0, 0
    for line in lines:
        content += int.from_bytes(hashlib.sha256(line).digest(), "big")
        ended = line + b"\n"
        write(ended)
        sha256.update(ended)
        rows, size = rows + 1, size + len(ended)
    return TableFile(
        name=str(name),
        columns=columns,
        rows=rows,
        size=size,
        sha256=sha256.hexdigest(),
        content=f"{content % _DIGEST_MODULUS:064x}",
    )


def load_table(connection: Connection, table: Table, columns: tuple[str, ...], file: Path) -> None:
    """Add the rows of *file* to the empty *table*."""
    binary = {column.name for column in _columns(table) if isinstance(column.type, LargeBinary)}
    insert = table.insert()
    with file.open("rb") as lines:
        for some in _batches(lines):
            rows = [dict(zip(columns, msgspec.json.decode(line), strict=True)) for line in some]
            for name in binary:
                for row in rows:
                    row[name] = msgspec.convert(row[name], bytes | None)
            connection.execute(insert, rows)


# --- numbers that a database gives out by itself


def sequence_positions(connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
    """For each table that draws its key from a sequence, the last number that was given.

    It may be of no row any more, and must not be given again all the same.
    """
    if connection.dialect.name == "sqlite":
        known = inspect(connection).has_table("sqlite_sequence")
        found = connection.execute(text("SELECT name, seq FROM sqlite_sequence")) if known else ()
        names = {table.name for table in tables}
        return {name: int(last) for name, last in found if name in names}
    positions = {}
    for table in tables:
        sequence = _sequence_of(connection, table)
        if sequence is not None:
            called = connection.execute(text(f"SELECT last_value FROM {sequence} WHERE is_called"))  # noqa: S608  (the database's own name for it, quoted by it)
            positions[str(table.name)] = int(called.scalar() or 0)
    return positions


def continue_sequences(connection: Connection, tables: Iterable[Table], positions: dict[str, int]) -> None:
    """Let each sequence go on behind its position and behind the rows that are there."""
    for table in tables:
        position = positions.get(table.name, 0)
        if connection.dialect.name == "sqlite":
            if position:
                _continue_sqlite(connection, table.name, position)
            continue
        sequence = _sequence_of(connection, table)
        if sequence is not None:
            (key,) = table.primary_key.columns
            position = max(position, connection.scalar(select(func.max(key))) or 0)
            # The third argument says that the number was given; a sequence can't stand at 0.
            given = {"sequence": sequence, "position": max(position, 1), "called": position > 0}
            connection.execute(text("SELECT setval(CAST(:sequence AS regclass), :position, :called)"), given)


def _continue_sqlite(connection: Connection, table: str, position: int) -> None:
    named = {"table": table, "position": position}
    connection.execute(text("UPDATE sqlite_sequence SET seq = max(seq, :position) WHERE name = :table"), named)
    connection.execute(
        text(
            "INSERT INTO sqlite_sequence (name, seq) SELECT :table, :position "
            "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :table)"
        ),
        named,
    )


def _sequence_of(connection: Connection, table: Table) -> str | None:
    if len(table.primary_key.columns) != 1:
        return None
    (key,) = table.primary_key.columns
    if not isinstance(key.type, Integer):
        return None
    named = {"table": table.name, "column": key.name}
    name: str | None = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), named)
    return name


# --- rows and lines


def _names(table: Table) -> tuple[str, ...]:
    # SQLAlchemy's names are strings of a class of its own.
    return tuple(str(column.name) for column in _columns(table))


def _columns(table: Table) -> list[Column[Any]]:
    columns = [column for column in table.columns if column.computed is None]
    for column in columns:
        if not isinstance(column.type, (Boolean, Float, Integer, JSON, LargeBinary, String)):
            raise TableNotPortable(table.name, column.name, f"its type is {column.type}")
        if isinstance(column.type, JSON):
            # Else an absent value would come back as JSON's own null.
            column.type.none_as_null = True
    return columns


def _lines(connection: Connection, table: Table) -> Iterator[bytes]:
    columns = _columns(table)
    floats = [(place, column.name) for place, column in enumerate(columns) if isinstance(column.type, Float)]
    encode = msgspec.json.Encoder().encode
    rows = connection.execute(select(*columns), execution_options={"yield_per": _ROWS_AT_ONCE})
    for row in rows:
        values = list(row)
        for place, name in floats:
            if values[place] is None:
                continue
            if not math.isfinite(values[place]):
                raise TableNotPortable(table.name, name, "it holds a number that JSON has no word for")
            values[place] += 0.0  # Minus zero becomes zero: SQLite has only the one.
        yield encode(values)


def _batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
