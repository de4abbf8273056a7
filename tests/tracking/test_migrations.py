"""The migrations make the very tables that the schema describes, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import registry.schema  # noqa: F401  (its tables join the one catalogue)
import tracking.migrations
from tracking.access.grants import Grant
from tracking.access.users import get_user
from tracking.database import Database, DatabaseNeedsMigration, is_known_revision, migrate, newest_revision
from tracking.schema import Base


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/empty.db"
    else:
        url = request.getfixturevalue("postgres_database_url")
    database = Database(url)
    yield database
    database.dispose()


def comparable(database):
    """Alembic can't read an index with DESC back from SQLite; on PostgreSQL it is compared like any other."""

    def include(_object, name, kind, _reflected, _compare_to):
        return not (database.is_sqlite and kind == "index" and name.endswith("_listing"))

    return {"include_object": include}


def test_an_upgraded_database_is_what_the_schema_says(empty):
    empty.upgrade()
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=comparable(empty))
        assert compare_metadata(context, Base.metadata) == []
    empty.check_revision()


def test_each_migrations_file_is_named_by_its_revision():
    config = Config()
    config.set_main_option("script_location", str(Path(tracking.migrations.__file__).parent))
    scripts = ScriptDirectory.from_config(config)
    assert newest_revision() == scripts.get_current_head()
    assert all(is_known_revision(script.revision) for script in scripts.walk_revisions())


def test_upgrading_twice_at_once_is_safe_and_changes_nothing_more(empty):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: empty.upgrade(), range(4)))
    empty.upgrade()
    empty.check_revision()


def test_a_database_without_tables_says_how_to_make_them(empty):
    with pytest.raises(DatabaseNeedsMigration, match="--migrate"):
        empty.check_revision()


def test_users_keep_what_they_have_when_columns_are_added(empty):
    with empty.engine.begin() as connection:
        migrate(connection, "0005")
        connection.execute(text("INSERT INTO users VALUES ('ann', NULL, false, 'admin', 1)"))
        connection.execute(text("INSERT INTO grants VALUES ('ann', 'viewer', 'admin', 1)"))
    empty.upgrade()
    with empty.reading() as session:
        assert get_user(session, "ann").grants == (Grant("viewer"),)
