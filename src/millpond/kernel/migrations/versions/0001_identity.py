"""Principals and their credentials."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of identity."""
    op.create_table(
        "identity_principals",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("name_key", sa.String(255), nullable=False),
        sa.Column("display_name", sa.String(255), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("external_id", sa.String(255)),
        sa.Column("password_hash", sa.String(255)),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name_key"),
    )
    op.create_table(
        "identity_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("principal_id", BigId, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("comment", sa.String(1000), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_hash"),
        sa.ForeignKeyConstraint(["principal_id"], ["identity_principals.id"], ondelete="CASCADE"),
    )
    op.create_index(None, "identity_tokens", ["principal_id"])
