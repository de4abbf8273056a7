"""Gates, approvals, and who registered a version.

Revision: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In no batch, which on SQLite makes the table anew: tags and signatures would go with the old one.
    op.add_column("model_versions", sa.Column("author", sa.String(length=256), nullable=True))
    op.create_table(
        "gates",
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_gates")),
    )
    op.create_table(
        "approvals",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            name=op.f("fk_approvals_name_version"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "version", "author", name=op.f("pk_approvals")),
    )


def downgrade() -> None:
    """Go back by restoring a backup: what these tables hold would be lost."""
    raise NotImplementedError
