"""Policies that filter rows and mask columns by tags."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table of policies; there is none yet."""
    op.create_table(
        "catalog_policies",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("securable_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("function_id", sa.String(36), nullable=False),
        sa.Column("terms", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("updated_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("securable_id", "name"),
    )
    op.create_index("ix_catalog_policies_function_id", "catalog_policies", ["function_id"])
