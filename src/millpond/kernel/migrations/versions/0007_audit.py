"""The audit: its outbox, its chain and the state of the chain's ends."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId, UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the tables, and the empty chain."""
    op.create_table(
        "journal_outbox",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit_entries",
        sa.Column("sequence", BigId, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("event_time", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("service", sa.String(60), nullable=False),
        sa.Column("action", sa.String(120), nullable=False),
        sa.Column("kind", sa.String(60), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("address", sa.String(100), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("event_id"),
    )
    op.create_index(None, "audit_entries", ["event_time"])
    op.create_index(None, "audit_entries", ["actor", "sequence"])
    op.create_index(None, "audit_entries", ["name", "sequence"])
    ends = op.create_table(
        "audit_ends",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("anchor_sequence", sa.BigInteger(), nullable=False),
        sa.Column("anchor_hash", sa.String(64), nullable=False),
        sa.Column("cut_before", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    zero = "0" * 64
    op.bulk_insert(ends, [{"id": 1, "sequence": 0, "hash": zero, "anchor_sequence": 0, "anchor_hash": zero}])
