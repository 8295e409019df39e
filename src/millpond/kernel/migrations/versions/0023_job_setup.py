"""When the code of a task began, after its process was set up; and runs without their iterations are found fast."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the column, which of attempts before is not known, and widen the index."""
    op.add_column("job_task_runs", sa.Column("began_at", UtcDateTime()))
    op.create_index("ix_job_task_runs_run_id_parent_id", "job_task_runs", ["run_id", "parent_id"])
    op.drop_index("ix_job_task_runs_run_id", "job_task_runs")
