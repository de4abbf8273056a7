"""What was copied from other servers.

Revision: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "imports",
        sa.Column("source", _text(500), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("id", _text(600), nullable=False),
        sa.Column("local_id", _text(600), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("done_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "id", name=op.f("pk_imports")),
    )


def downgrade() -> None:
    """Go back by restoring a backup: what this table holds would be lost."""
    raise NotImplementedError
