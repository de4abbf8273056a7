"""Fixtures that many tests share: both databases, a real S3, a running Titlebout."""

import functools
import gc
import os
import re
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
import uvicorn
from sqlalchemy import delete, text

from gateway.access.gatekeeper import Gatekeeper
from gateway.app import create_app
from gateway.artifact_access import open_artifact_store, root_of_new_artifacts
from gateway.cli.server_process import ServerProcess, free_port, server_process
from gateway.main import listen
from gateway.settings import Settings
from tests.servers import running_postgres, running_s3
from tracking.access.caller import CALLER, PROGRAM
from tracking.database import Database
from tracking.experiments import ensure_default_experiment
from tracking.schema import Base

MARKS = re.compile(r"^(pytestmark = \[?\s*)?.*?pytest\.mark\.(?:e2e|slow)\b", re.MULTILINE)
"""Of what `make test` leaves for `make test-all`; with a group if it is the whole module."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't import modules all of whose tests this run leaves out: some bring torch, Lightning and much else."""
    if collection_path.suffix != ".py":
        return None
    marks = MARKS.findall(collection_path.read_text())
    match config.option.markexpr:
        case "not slow and not e2e" if any(at_top for at_top in marks):
            return True
        case "e2e or slow" if not marks:
            return True
    return None


def pytest_collection_finish() -> None:
    """Spare the collector what the test modules imported: walking through it takes longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """httpx reads all certificates anew for each client: 20 ms, thousands of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


FIRST_ROWS: tuple[LiteralString, ...] = (
    "INSERT INTO generation (id, value) VALUES (1, 0)",
    "INSERT INTO access_changes (id, value) VALUES (1, 0)",
)
"""What the migrations put into tables."""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL that tests may make databases in: ``TEST_DATABASE_URL``, else one of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    with running_s3() as environment:
        yield environment


@pytest.fixture
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database in the PostgreSQL of this test run."""
    with new_postgres_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[str]:
    """A database with all tables, which each test finds empty: making one takes longer than most tests."""
    with new_postgres_database(postgres_url) as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for SQLite: a file to copy."""
    path = tmp_path_factory.mktemp("migrated") / "titlebout.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store with all tables, once on SQLite and once on PostgreSQL."""
    with ExitStack() as life:
        if request.param == "sqlite":
            shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "titlebout.db")
            url = f"sqlite:///{tmp_path}/titlebout.db"
        else:
            url = request.getfixturevalue("migrated_postgres")
            life.callback(empty_postgres, url)
        database = Database(url)
        life.callback(database.dispose)
        yield database


@contextmanager
def new_postgres_database(server_url: str) -> Iterator[str]:
    name = f"titlebout_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server_url.rsplit("/", 1)[0] + "/" + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def empty_postgres(url: str) -> None:
    """Leave the tables as the migrations made them."""
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with psycopg.connect(url) as connection:
        # A test that left a transaction open fails here, rather than keep the next one waiting.
        connection.execute("SET lock_timeout = '10s'")
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
        for statement in FIRST_ROWS:
            connection.execute(statement)


def migrate(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.dispose()
    if database.is_sqlite:
        # What the write-ahead log holds belongs into the file that is copied.
        with closing(sqlite3.connect(str(database.url.database))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class AlwaysReady:
    def reason_not_ready(self) -> str | None:
        return None


class SharedApi:
    """The APIs on SQLite and a folder, in a thread of this process, for one test after the other."""

    def __init__(self, settings: Settings) -> None:
        self.data = settings.data_dir
        self._settings = settings
        self._database = Database(settings.database, asks_who=True)

    @contextmanager
    def running(self) -> Iterator[str]:
        with answering(self._settings, self._database) as url:
            yield url
        self._database.dispose()

    def empty(self) -> None:
        """Leave what a first start makes. The file stays: what a client's thread still asks may have it open."""
        CALLER.set(PROGRAM)
        with self._database.writing() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
            session.execute(text("DELETE FROM sqlite_sequence"))
            for statement in FIRST_ROWS:
                session.execute(text(statement))
        shutil.rmtree(self.data / "artifacts", ignore_errors=True)
        add_default_experiment(self._settings, self._database)


@pytest.fixture(scope="session")
def shared_api(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> SharedApi:
    data = tmp_path_factory.mktemp("api")
    shutil.copy(migrated_sqlite, data / "titlebout.db")
    with closing(sqlite3.connect(data / "titlebout.db")) as connection:
        # Each test begins with no history, which nobody else can bring about.
        connection.execute("DROP TRIGGER history_no_delete")
    return SharedApi(Settings(data=str(data)))


@pytest.fixture(scope="session")
def shared_api_url(shared_api: SharedApi) -> Iterator[str]:
    with shared_api.running() as url:
        yield url


@pytest.fixture
def api_server(shared_api: SharedApi, shared_api_url: str) -> str:
    """The URL of the tracking, registry and artifact APIs, empty: an application takes longer to make than to empty."""
    shared_api.empty()
    return shared_api_url


@contextmanager
def running_api(settings: Settings, gate: Gatekeeper | None = None, **parts: Any) -> Iterator[str]:
    """The same with settings of one's own, a door where *gate* says who may come in, and more *parts* of the app."""
    database = Database(settings.database, asks_who=True)
    database.upgrade()
    add_default_experiment(settings, database)
    with answering(settings, database, gate, **parts) as url:
        yield url
    database.dispose()


def add_default_experiment(settings: Settings, database: Database) -> None:
    CALLER.set(PROGRAM)
    root = root_of_new_artifacts(settings, open_artifact_store(settings))
    with database.writing() as session:
        ensure_default_experiment(session, root, now_ms=0)


@contextmanager
def answering(settings: Settings, database: Database, gate: Gatekeeper | None = None, **parts: Any) -> Iterator[str]:
    """An application on *database* in a thread of this process; gives its URL."""
    store = open_artifact_store(settings)
    app = create_app(
        settings, database=database, artifact_store=store, readiness=AlwaysReady(), clock=time.time, gate=gate, **parts
    )
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", proxy_headers=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()


# Those who stop a server here have connections open that nobody asks by any more: the five seconds that callers get
# would be waited for at each stop and each replacement.
SOON_GONE = {"TITLEBOUT_IDLE_GRACE_S": "1"}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts real Titlebout processes: ``serve("--workers", "2", environment={…})``; stops them after the test."""
    with ExitStack() as servers:

        def start(
            *options: str, data: Path = tmp_path / "server", environment: Mapping[str, str] | None = None, **more: Any
        ) -> ServerProcess:
            environment = {**SOON_GONE, **(environment or {})}
            return servers.enter_context(
                server_process(data, *options, port=free_port(), environment=environment, **more)
            )

        yield start
