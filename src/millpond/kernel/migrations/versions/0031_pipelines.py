"""Pipelines, their updates and events; runs say of which pipeline they are."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Create the tables and the column."""
    op.add_column("job_runs", sa.Column("pipeline_id", sa.String(36)))
    op.create_index("ix_job_runs_pipeline_id", "job_runs", ["pipeline_id"])
    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("claimed_name", sa.String(255)),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("active_update_id", sa.String(36)),
        sa.Column("next_start_at", UtcDateTime),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("claimed_name", name="uq_pipelines_claimed_name"),
    )
    op.create_index("ix_pipelines_name", "pipelines", ["name"])
    op.create_index("ix_pipelines_next_start_at", "pipelines", ["next_start_at"])
    op.create_table(
        "pipeline_updates",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("pipeline_id", sa.String(36), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.String(30), nullable=False),
        sa.Column("asked", Json, nullable=False),
        sa.Column("asked_by", sa.String(255), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("state", sa.String(30), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("error", Json),
        sa.Column("told_by", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_updates")),
    )
    op.create_index("ix_pipeline_updates_pipeline_id_number", "pipeline_updates", ["pipeline_id", "number"])
    op.create_index("ix_pipeline_updates_run_id", "pipeline_updates", ["run_id"])
    op.create_index("ix_pipeline_updates_created_at", "pipeline_updates", ["created_at"])
    op.create_table(
        "pipeline_events",
        sa.Column("pipeline_id", sa.String(36), nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("update_id", sa.String(36)),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("level", sa.String(10), nullable=False),
        sa.Column("event_type", sa.String(60), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.PrimaryKeyConstraint("pipeline_id", "number", name=op.f("pk_pipeline_events")),
    )
    op.create_index(
        "ix_pipeline_events_pipeline_id_level_number", "pipeline_events", ["pipeline_id", "level", "number"]
    )
    op.create_index("ix_pipeline_events_update_id_number", "pipeline_events", ["update_id", "number"])
    op.create_index("ix_pipeline_events_at", "pipeline_events", ["at"])
