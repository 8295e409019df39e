"""Workers on other machines, who may run a task, and what tasks of workers print and leave."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Create the tables and columns. Tasks that wait since before are looked at by servers."""
    op.add_column("job_task_runs", sa.Column("worker", sa.String(36), nullable=False, server_default=""))
    op.add_column("job_task_runs", sa.Column("place", sa.String(10), nullable=False, server_default=""))
    op.execute("UPDATE job_task_runs SET place = 'server' WHERE state = 'QUEUED'")
    held = sa.text("state = 'RUNNING' AND lease <> ''")
    op.create_index(
        "uq_job_task_runs_lease", "job_task_runs", ["lease"], unique=True, sqlite_where=held, postgresql_where=held
    )
    op.create_table(
        "job_workers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("account", sa.String(255), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("came_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_workers")),
    )
    op.create_table(
        "job_task_parts",
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "name", "start", name=op.f("pk_job_task_parts")),
    )
