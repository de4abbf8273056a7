"""The history of what is served, chained by hash.

Revision: 0007
Revises: 0006
"""

import hashlib
import time

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ON_SQLITE = [
    f"CREATE TRIGGER history_no_{verb.lower()} BEFORE {verb} ON history "
    "BEGIN SELECT RAISE(ABORT, 'the history is added to and never altered'); END"
    for verb in ("UPDATE", "DELETE")
]
_ON_POSTGRESQL = [
    (
        "CREATE OR REPLACE FUNCTION history_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the history is added to and never altered'; END $$"
    ),
    "CREATE TRIGGER history_is_kept BEFORE UPDATE OR DELETE ON history FOR EACH ROW EXECUTE FUNCTION history_is_kept()",
]


def upgrade() -> None:
    history = op.create_table(
        "history",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("action", sa.String(length=30), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("alias", sa.String(length=256), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_history")),
    )
    with op.batch_alter_table("history", schema=None) as batch_op:
        batch_op.create_index("ix_history_model", ["model", "seq"], unique=False)
    op.bulk_insert(history, _as_it_is())
    for statement in _ON_SQLITE if op.get_bind().dialect.name == "sqlite" else _ON_POSTGRESQL:
        op.execute(statement)


def _as_it_is() -> list[dict[str, object]]:
    """What each alias means now, which is all that is known of before."""
    aliases = sa.table("aliases", sa.column("name"), sa.column("alias"), sa.column("version"))
    rows = op.get_bind().execute(sa.select(aliases).order_by(aliases.c.name, aliases.c.alias))
    now_ms, before, entries = int(time.time() * 1000), "0" * 64, []
    for seq, (name, alias, version) in enumerate(rows, start=1):
        said = [seq, now_ms, "titlebout", "alias_set", name, alias, version, "as it was when the history began", "{}"]
        before = hashlib.sha256(before.encode() + b"\n" + msgspec.json.encode(said)).hexdigest()
        columns = ("seq", "at_ms", "author", "action", "model", "alias", "version", "reason", "details", "hash")
        entries.append(dict(zip(columns, [*said, before], strict=True)))
    return entries


def downgrade() -> None:
    """Go back by restoring a backup: what this table holds would be lost."""
    raise NotImplementedError
