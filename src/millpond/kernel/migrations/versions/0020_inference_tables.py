"""Inference tables, and which of them a configuration writes to."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Create the table and the column."""
    op.create_table(
        "inference_tables",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("payload_id", sa.String(36), nullable=False),
        sa.Column("labels_id", sa.String(36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("writer", sa.String(255), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("views", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference_tables")),
        sa.UniqueConstraint("payload_id", name=op.f("uq_inference_tables_payload_id")),
    )
    op.create_index("ix_inference_tables_endpoint_id", "inference_tables", ["endpoint_id"])
    op.add_column("serving_configs", sa.Column("auto_capture", Json))
