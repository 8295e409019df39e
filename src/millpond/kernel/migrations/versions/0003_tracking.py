"""Owners of experiments and workspace models. MLflow's own tables have MLflow's own history."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of tracking."""
    op.create_table(
        "tracking_owners",
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("object_id", sa.String(256), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "object_id"),
    )
    op.create_index("ix_tracking_owners_owner_kind", "tracking_owners", ["owner", "kind"])
