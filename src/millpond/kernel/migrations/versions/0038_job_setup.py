"""When the code of a task began, after its process was set up."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0038"
down_revision = "0022"


def upgrade() -> None:
    """Add the column; of attempts before, it is not known."""
    op.add_column("job_task_runs", sa.Column("began_at", UtcDateTime()))
