"""Users who sign in by an OpenID Connect issuer.

Revision: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In no batch, which on SQLite makes the table anew: grants and tokens would go with the old one, by their cascades.
    op.add_column("users", sa.Column("oidc_subject", sa.String(length=800), nullable=True))
    op.add_column("users", sa.Column("oidc_awaited", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(op.f("ix_users_oidc_subject"), "users", ["oidc_subject"], unique=True)


def downgrade() -> None:
    """Go back by restoring a backup: what these columns hold would be lost."""
    raise NotImplementedError
