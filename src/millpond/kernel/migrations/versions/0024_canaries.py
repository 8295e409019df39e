"""Canaries of endpoints, and replays of their traffic."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "serving_canaries",
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("entity", sa.String(128), nullable=False),
        sa.Column("baseline", sa.String(128), nullable=False),
        sa.Column("models", Json, nullable=False),
        sa.Column("steps", Json, nullable=False),
        sa.Column("step_minutes", sa.Float(), nullable=False),
        sa.Column("guardrails", Json, nullable=False),
        sa.Column("before", Json, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("counts", Json, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("step_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("endpoint_id", name=op.f("pk_serving_canaries")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["serving_endpoints.id"],
            name=op.f("fk_serving_canaries_endpoint_id_serving_endpoints"),
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_serving_canaries_state", "serving_canaries", ["state"])
    op.create_table(
        "replay_runs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("subject_key", sa.String(300), nullable=False),
        sa.Column("model", sa.String(800), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("table_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("requester", sa.String(255), nullable=False),
        sa.Column("asked", Json, nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("report", Json, nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replay_runs")),
    )
    op.create_index("ix_replay_runs_subject_key_version", "replay_runs", ["subject_key", "version"])
    op.create_index("ix_replay_runs_endpoint_id", "replay_runs", ["endpoint_id"])
