"""The history of the tables, by Alembic; the next revision is written by comparing the schema with it."""
