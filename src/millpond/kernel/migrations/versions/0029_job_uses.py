"""Which job's task read and wrote which tables and models, and on which machine it ran."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Create the table and columns. Of what was done before nobody knows by which job."""
    for table in ("lineage_edges", "lineage_events"):
        op.add_column(table, sa.Column("job_id", sa.BigInteger()))
        op.add_column(table, sa.Column("job_run_id", sa.BigInteger()))
    op.add_column("job_task_runs", sa.Column("machine", sa.String(255), nullable=False, server_default=""))
    op.add_column("job_task_runs", sa.Column("loan", sa.String(36), nullable=False, server_default=""))
    op.create_table(
        "lineage_job_uses",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("per", sa.String(4), nullable=False),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("task_run_id", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(32), nullable=False),
        sa.Column("way", sa.String(5), nullable=False),
        sa.Column("operation", sa.String(60), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lineage_job_uses")),
    )
    op.create_index("ix_lineage_job_uses_run_id_per", "lineage_job_uses", ["run_id", "per"])
    op.create_index("ix_lineage_job_uses_node_id_per_last_seen", "lineage_job_uses", ["node_id", "per", "last_seen"])
