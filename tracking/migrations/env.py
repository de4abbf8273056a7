"""Alembic's entry: runs on the connection and in the transaction that `Database.upgrade` hands over."""

from alembic import context

from tracking.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can't alter columns; Alembic copies the table instead.
    render_as_batch=True,
    compare_server_default=True,
)
context.run_migrations()
