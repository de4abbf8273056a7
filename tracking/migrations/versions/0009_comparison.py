"""What arms are compared by.

Revision: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_tallies()
    _make_shadows()
    _make_load_tests()


def _make_tallies() -> None:
    op.create_table(
        "tallies",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_tallies_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "kind", "period", "arm", "version", name=op.f("pk_tallies")),
    )


def _make_load_tests() -> None:
    op.create_table(
        "load_tests",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("against", sa.Integer(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            name=op.f("fk_load_tests_name_version"),
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "version", "number", name=op.f("pk_load_tests")),
    )


def _make_shadows() -> None:
    op.create_table(
        "shadows",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("arm", sa.String(length=256), nullable=False),
        sa.Column("share_bp", sa.Integer(), nullable=False),
        sa.Column("keep_inputs", sa.Integer(), nullable=False),
        sa.Column("tolerance", sa.Float(53), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_shadows_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", name=op.f("pk_shadows")),
    )
    op.create_table(
        "shadow_inputs",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["shadows.endpoint_id"], name=op.f("fk_shadow_inputs_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "fingerprint", name=op.f("pk_shadow_inputs")),
    )


def downgrade() -> None:
    """Go back by restoring a backup: what these tables hold would be lost."""
    raise NotImplementedError
