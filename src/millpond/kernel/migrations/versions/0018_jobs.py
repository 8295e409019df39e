"""Jobs, their runs, and the runs of their tasks."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "job_definitions",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(4096), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("next_fire_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_definitions")),
    )
    op.create_index("ix_job_definitions_next_fire_at", "job_definitions", ["next_fire_at"])
    op.create_table(
        "job_runs",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("name", sa.String(4096), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("trigger", sa.String(20), nullable=False),
        sa.Column("token", sa.String(255)),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("result", sa.String(40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("parent_run_id", sa.BigInteger()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("repairs", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
        sa.UniqueConstraint("token", name=op.f("uq_job_runs_token")),
    )
    op.create_index("ix_job_runs_job_id", "job_runs", ["job_id"])
    op.create_index("ix_job_runs_state", "job_runs", ["state"])
    op.create_table(
        "job_task_runs",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("parent_id", sa.BigInteger()),
        sa.Column("iteration", sa.Integer()),
        sa.Column("input", Json),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retry", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("result", sa.String(40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("order", Json, nullable=False),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("child_run_id", sa.BigInteger()),
        sa.Column("task_values", Json, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("lease", sa.String(36), nullable=False),
        sa.Column("leased_until", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_task_runs")),
    )
    op.create_index("ix_job_task_runs_run_id", "job_task_runs", ["run_id"])
    op.create_index("ix_job_task_runs_state", "job_task_runs", ["state"])
