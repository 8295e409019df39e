"""Serving endpoints, their configurations and served entities."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables of serving."""
    op.create_table(
        "serving_endpoints",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("route_optimized", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.Column("active_version", sa.Integer()),
        sa.Column("pending_version", sa.Integer()),
        sa.Column("config_update", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "serving_configs",
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("routes", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "version"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["serving_endpoints.id"], ondelete="CASCADE"),
    )
    op.create_table(
        "serving_entities",
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model_name", sa.String(800), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("model_source", sa.Text(), nullable=False),
        sa.Column("workload_size", sa.String(20), nullable=False),
        sa.Column("scale_to_zero", sa.Boolean(), nullable=False),
        sa.Column("environment", Json, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(30), nullable=False),
        sa.Column("state_message", sa.Text(), nullable=False),
        sa.Column("build_log", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "version", "name"),
        sa.ForeignKeyConstraint(
            ["endpoint_id", "version"],
            ["serving_configs.endpoint_id", "serving_configs.version"],
            ondelete="CASCADE",
        ),
    )
