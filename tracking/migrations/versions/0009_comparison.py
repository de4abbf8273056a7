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
    _make_feedback()
    _make_verdicts()
    _make_interfaces()
    _make_rollouts()
    _make_waiting_labels()


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


def _make_feedback() -> None:
    op.create_table(
        "prediction_keys",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("retired_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prediction_keys")),
    )
    op.create_table(
        "labels",
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("is_reward", sa.Boolean(), nullable=False),
        sa.Column("predicted_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", "is_reward", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_predicted_ms"), "labels", ["predicted_ms"])
    op.create_table(
        "feedback_counts",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_feedback_counts_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "outcome", name=op.f("pk_feedback_counts")),
    )


def _make_verdicts() -> None:
    op.add_column("splits", sa.Column("reshuffled", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "verdicts",
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("champion", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("challenger", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metric", sa.String(length=50), nullable=False),
        sa.Column("arm", sa.String(length=256), nullable=False),
        sa.Column("from_period", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("alike", sa.Boolean(), nullable=False),
        sa.Column("difference", sa.Float(53), nullable=True),
        sa.Column("lower", sa.Float(53), nullable=True),
        sa.Column("upper", sa.Float(53), nullable=True),
        sa.Column("champion_n", sa.Float(53), nullable=False),
        sa.Column("challenger_n", sa.Float(53), nullable=False),
        sa.Column("mismatch_p", sa.Float(53), nullable=False),
        sa.Column("judged_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_verdicts_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "champion", "challenger", "metric", name=op.f("pk_verdicts")),
    )


def _make_interfaces() -> None:
    op.create_table(
        "model_version_interfaces",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            name=op.f("fk_model_version_interfaces_name_version"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_model_version_interfaces")),
    )


def _make_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("running_on", sa.String(length=32), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("course", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_rollouts_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
        sa.UniqueConstraint("running_on", name=op.f("uq_rollouts_running_on")),
    )
    op.create_index(op.f("ix_rollouts_endpoint_id"), "rollouts", ["endpoint_id"], unique=False)


def _make_waiting_labels() -> None:
    op.create_table(
        "waiting_labels",
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("prediction_id", sa.String(length=119), nullable=False),
        sa.Column("row", sa.Integer(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=True),
        sa.Column("arm", sa.String(length=256), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("cluster", sa.Integer(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_waiting_labels_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_waiting_labels")),
    )


def downgrade() -> None:
    """Go back by restoring a backup: what these tables hold would be lost."""
    raise NotImplementedError
