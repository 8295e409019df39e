"""Reports of parity checks."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "parity_reports",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("subject_key", sa.String(300), nullable=False),
        sa.Column("subject", sa.String(800), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("requester", sa.String(255), nullable=False),
        sa.Column("asked", Json, nullable=False),
        sa.Column("report", Json, nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parity_reports")),
    )
    op.create_index("ix_parity_reports_subject_key_version", "parity_reports", ["subject_key", "version"])
