"""Online stores, and the tables that are published into them."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "online_stores",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("capacity", sa.String(20), nullable=False),
        sa.Column("read_replica_count", sa.Integer(), nullable=False),
        sa.Column("usage_policy_id", sa.String(255), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_online_stores")),
    )
    op.create_table(
        "online_tables",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(800), nullable=False),
        sa.Column("source_id", sa.String(36), nullable=False),
        sa.Column("store", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("mode", sa.String(20), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger()),
        sa.Column("committed_at", UtcDateTime()),
        sa.Column("published_at", UtcDateTime()),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("anew", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("lease", sa.String(40), nullable=False),
        sa.Column("leased_until", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_online_tables")),
        sa.UniqueConstraint("name", name=op.f("uq_online_tables_name")),
    )
    op.create_index("ix_online_tables_source_id", "online_tables", ["source_id"])
    op.create_index("ix_online_tables_store", "online_tables", ["store"])
