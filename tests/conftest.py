"""Fixtures that many tests share: both databases, a real S3, a running Titlebout."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry.schema  # noqa: F401  (its tables join the one catalogue)
from tests.servers import running_postgres, running_s3
from tracking.database import Database
from tracking.schema import Base


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
    import psycopg

    name = f"titlebout_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_url.rsplit("/", 1)[0] + "/" + name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store with all tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/titlebout.db"
    else:
        url = request.getfixturevalue("postgres_database_url")
    database = Database(url)
    Base.metadata.create_all(database.engine)
    yield database
    database.dispose()
