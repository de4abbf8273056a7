"""One database, SQLite or PostgreSQL, and the only two doors to it: `reading` and `writing`.

Synchronous on purpose (docs/decisions/0003): callers on an event loop come through a bounded thread pool. A
transaction is a `with` that the caller can see; it is committed when the block ends, before any answer exists.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from tracking.access.caller import CALLER, CALLER_KEY, Caller
from tracking.errors import InvalidParameter, TemporarilyUnavailable

_MIGRATIONS = Path(__file__).parent / "migrations"

# How long a writer waits for another process's transaction. Ours last milliseconds; a backup may last seconds.
_SQLITE_BUSY_TIMEOUT_MS = 15_000

# How long the log may get before it is carried over: 32 MiB, eight times the default.
_SQLITE_LOG_PAGES = 8_192

# A server whose machine or network is gone says nothing more. Found out within ten seconds; the system's own patience
# is a quarter of an hour for what was sent, and two hours for a connection at rest.
_HEARD_WITHIN = {
    "tcp_user_timeout": 10_000,  # ms
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 5,
}


class DatabaseUnavailable(TemporarilyUnavailable):
    """The database can't be reached; predictions go on, writes must wait."""

    def __init__(self) -> None:
        super().__init__("The database can't be reached at the moment. Try again shortly.")


class DatabaseNeedsMigration(InvalidParameter):
    """The tables are older or newer than this program."""

    def __init__(self, found: str | None, wanted: str | None) -> None:
        super().__init__(
            f"The database is at revision {found or 'none (it is empty)'}, and this program needs {wanted}. "
            "Run `titlebout db upgrade`, or `titlebout serve --migrate` once, or apply the migration Job."
        )


def database_url(given: str) -> URL:
    """Read *given* as MLflow and people write it: ``postgresql://`` and ``postgres://`` mean psycopg 3.

    Raises:
        InvalidParameter: if it isn't a URL of SQLite or PostgreSQL.
    """
    try:
        url = make_url(given)
    except Exception as error:  # SQLAlchemy raises several kinds here, all of them about the text.
        raise InvalidParameter("The database URL can't be read; expected sqlite:///FILE or postgresql://…") from error
    backend = url.drivername.split("+")[0]
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return url.set(drivername="sqlite+pysqlite")
    raise InvalidParameter(f"Database kind {backend!r} is not supported; expected sqlite or postgresql.")


class Database:
    """An engine with our transaction habits. Close it with `dispose`.

    With *asks_who* each session is for the `CALLER` of the context in which it is opened, and there must be one.
    """

    def __init__(self, url: str, *, pool_size: int = 8, connect_timeout_s: int = 5, asks_who: bool = False) -> None:
        self._asks_who = asks_who
        self.url = database_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine: Engine
        self._writing_engine: Engine
        if self.is_sqlite:
            self._engine = self._sqlite_engine(pool_size)
            # SQLite admits one writer at a time, so one connection will do, and its page cache stays warm: a
            # connection drops its own whenever another one has written.
            self._writing_engine = self._sqlite_engine(1).execution_options(write=True)
        else:
            self._engine = self._postgresql_engine(pool_size, connect_timeout_s)
            self._writing_engine = self._engine
        # SQLite's own waiting is a lottery of sleeps. Within a process a lock queues writers fairly; between
        # processes busy_timeout remains.
        self._writer = threading.Lock()

    @property
    def place(self) -> str:
        """The URL for people: without what may be secret in it, which the query may hold as well as the password."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    def _postgresql_engine(self, pool_size: int, connect_timeout_s: int) -> Engine:
        return create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=True,
            # READ COMMITTED is the default; said here because row locks in `registry` rely on it.
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": connect_timeout_s, "application_name": "titlebout", **_HEARD_WITHIN},
        )

    def _sqlite_engine(self, pool_size: int) -> Engine:
        if self.url.database:
            # Nobody else's business, if the folder is ours to make.
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=30,
            connect_args={"check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for questions; whatever it changes is thrown away."""
        with _translated_errors(), self._engine.connect() as connection:
            with Session(connection, info=self._whose()) as session:
                yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed when the block ends, and undone when it raises."""
        with self._turn_to_write(), _translated_errors(), self._writing_connection() as connection:
            with Session(connection, expire_on_commit=False, info=self._whose()) as session, session.begin():
                yield session

    def _whose(self) -> dict[str, Caller]:
        # Whoever forgets to say for whom it asks finds out, rather than be shown everything.
        return {CALLER_KEY: CALLER.get()} if self._asks_who else {}

    @contextmanager
    def _writing_connection(self) -> Iterator[Connection]:
        with self._writing_engine.connect() as connection:
            yield connection

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        with self._writer:
            yield

    def now_ms(self, session: Session) -> int:
        """The database's own clock, epoch milliseconds: the one clock that all replicas share."""
        if self.is_sqlite:
            # julianday carries milliseconds; SQLite older than 3.42 has no subsec modifier.
            sql = "SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
        else:
            sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
        return int(session.execute(text(sql)).scalar_one())

    @contextmanager
    def snapshot(self, scratch: Path) -> Iterator[Connection]:
        """Everything as of one moment, however long it is read and whoever writes meanwhile: for backups.

        SQLite is copied into *scratch* first, because who reads for long keeps its log from being emptied.
        """
        with _translated_errors():
            if self.is_sqlite:
                with self._copied(scratch / "snapshot.db") as connection:
                    yield connection
                return
            with self._engine.connect() as connection:
                options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                with connection.execution_options(**options).begin():
                    yield connection

    @contextmanager
    def _copied(self, file: Path) -> Iterator[Connection]:
        # SQLite's online backup, all pages in one go: a consistent copy, for which no writer has to wait.
        with closing(sqlite3.connect(file)) as copy, self._engine.connect() as connection:
            source: Any = connection.connection.driver_connection
            source.backup(copy)
        engine = create_engine(URL.create("sqlite+pysqlite", database=str(file)))
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
            file.unlink()

    def upgrade(self) -> None:
        """Bring the tables to this program's revision; two processes at once are safe."""
        if self.revision() == newest_revision():
            return
        with _translated_errors(), self._writing_connection() as connection:
            with connection.begin():
                migrate(connection)

    def revision(self) -> str | None:
        """The revision that the tables are at, None if there are none."""
        with _translated_errors(), self._engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return found

    def check_revision(self) -> None:
        """Raise `DatabaseNeedsMigration` unless the tables are the ones this program was written for."""
        found, wanted = self.revision(), newest_revision()
        if found != wanted:
            raise DatabaseNeedsMigration(found, wanted)

    @property
    def engine(self) -> Engine:
        """For migrations, backups and tests; everything else goes through `reading` and `writing`."""
        return self._engine

    def dispose(self) -> None:
        self._engine.dispose()
        self._writing_engine.dispose()


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the tables to *revision*, as a part of the transaction that *connection* is in."""
    if connection.dialect.name != "sqlite":
        # Held to the end of the transaction, so that of two replicas one migrates and one finds it done.
        connection.execute(text("SELECT pg_advisory_xact_lock(7217001)"))
    # Here, because it brings template and syntax libraries that no start with tables up to date should wait for.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def newest_revision() -> str:
    """The revision of the tables that this program was written for."""
    return _revisions()[-1]


def is_known_revision(revision: str) -> bool:
    """Whether this program has a way from *revision* to its own."""
    return revision in _revisions()


def _revisions() -> list[str]:
    # Each migration's file begins with its revision, a number; they are one line without branches.
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


@contextmanager
def _translated_errors() -> Iterator[None]:
    # Only what says "the database is away" is translated. A broken constraint or statement is a bug of ours, or has
    # been turned into a named error where it was expected.
    try:
        yield
    except DBAPIError as error:
        away = error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
        if not away:
            raise
        raise DatabaseUnavailable from error
    except TimeoutError as error:
        raise DatabaseUnavailable from error


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does, and chooses how.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    # A page that many transactions write is carried over into the database once for all of them.
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_SQLITE_LOG_PAGES}")
    cursor.execute("PRAGMA foreign_keys = ON")
    # As PostgreSQL has it: LIKE minds case, and what doesn't (ILIKE) is written with lower().
    cursor.execute("PRAGMA case_sensitive_like = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock before it reads. A deferred one would read first and then fail with SQLITE_BUSY when
    # it upgrades, without waiting for busy_timeout.
    write = connection.get_execution_options().get("write", False)
    if write:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        # It can't fail, and going past SQLAlchemy saves a fifth of what a short question costs.
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN")
