"""Served entities that follow references and have a range of concurrency; limits, mail and events of endpoints."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("serving_configs", sa.Column("followed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("serving_entities", sa.Column("reference", sa.String(300), nullable=False, server_default=""))
    op.add_column("serving_entities", sa.Column("reference_note", sa.Text(), nullable=False, server_default=""))
    for name in ("min_concurrency", "max_concurrency"):
        op.add_column("serving_entities", sa.Column(name, sa.Integer()))
    op.add_column("serving_endpoints", sa.Column("rate_limits", Json, nullable=False, server_default="[]"))
    op.add_column("serving_endpoints", sa.Column("notifications", Json, nullable=False, server_default="{}"))
    op.add_column("serving_endpoints", sa.Column("shadows", Json, nullable=False, server_default="[]"))
    op.create_table(
        "serving_events",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("entity", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_serving_events_endpoint_id", "serving_events", ["endpoint_id"])
