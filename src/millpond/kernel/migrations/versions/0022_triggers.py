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
