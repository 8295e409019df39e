"""What starts jobs by itself, when runs are looked at, and who is told of them."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Create the tables and columns. Jobs of before have periodic triggers or none."""
    op.add_column("job_definitions", sa.Column("trigger_kind", sa.String(20), nullable=False, server_default=""))
    op.execute("UPDATE job_definitions SET trigger_kind = 'periodic' WHERE next_fire_at IS NOT NULL")
    op.add_column("job_runs", sa.Column("told", Json, nullable=False, server_default="{}"))
    op.add_column("job_runs", sa.Column("due_at", UtcDateTime()))
    op.add_column("job_runs", sa.Column("slow_told", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("job_task_runs", sa.Column("slow_told", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("job_task_runs", sa.Column("server", sa.String(36), nullable=False, server_default=""))
    op.create_index("ix_job_runs_due_at", "job_runs", ["due_at"])
    op.create_table(
        "job_watches",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("known", Json, nullable=False),
        sa.Column("pending", Json, nullable=False),
        sa.Column("changed_at", UtcDateTime()),
        sa.Column("looked_at", UtcDateTime()),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("failed_at", UtcDateTime()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("fired_at", UtcDateTime()),
        sa.Column("run_id", sa.BigInteger()),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_watches")),
    )
    op.add_column("registry_webhooks", sa.Column("job_id", sa.String(30), nullable=False, server_default=""))
    op.create_table(
        "notification_destinations",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("addresses", Json, nullable=False),
        sa.Column("sealed", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_destinations")),
    )
    op.create_table(
        "notification_deliveries",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("about", sa.String(100), nullable=False),
        sa.Column("address", sa.String(400), nullable=False),
        sa.Column("destination_id", sa.String(36), nullable=False),
        sa.Column("event", sa.String(60), nullable=False),
        sa.Column("notice", Json, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_deliveries")),
    )
    op.create_index("ix_notification_deliveries_about", "notification_deliveries", ["about"])
    op.create_index("ix_notification_deliveries_updated_at", "notification_deliveries", ["updated_at"])
