"""Lineage: nodes, edges and events."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId, Json, UtcDateTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the tables of lineage."""
    op.create_table(
        "lineage_nodes",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "lineage_edges",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("source_id", sa.String(32), nullable=False),
        sa.Column("target_id", sa.String(32), nullable=False),
        sa.Column("known", sa.String(20), nullable=False),
        *_act(),
        sa.Column("inexact", Json, nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        *_seen(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "lineage_column_edges",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("source_id", sa.String(32), nullable=False),
        sa.Column("source_column", sa.Text(), nullable=False),
        sa.Column("target_id", sa.String(32), nullable=False),
        sa.Column("target_column", sa.Text(), nullable=False),
        sa.Column("use", sa.String(10), nullable=False),
        sa.Column("known", sa.String(20), nullable=False),
        *_seen(),
        sa.PrimaryKeyConstraint("id"),
    )
    for table in ("lineage_edges", "lineage_column_edges"):
        op.create_index(f"ix_{table}_source_id", table, ["source_id"])
        op.create_index(f"ix_{table}_target_id", table, ["target_id"])
    _create_events()


def _create_events() -> None:
    op.create_table(
        "lineage_events",
        sa.Column("sequence", BigId, nullable=False, autoincrement=False),
        sa.Column("observation", sa.String(36), nullable=False),
        sa.Column("time", UtcDateTime(), nullable=False),
        sa.Column("source_id", sa.String(32)),
        sa.Column("source_name", sa.Text()),
        sa.Column("target_id", sa.String(32)),
        sa.Column("target_name", sa.Text()),
        sa.Column("known", sa.String(20), nullable=False),
        *_act(),
        sa.PrimaryKeyConstraint("sequence"),
    )
    for column in ("observation", "statement"):
        op.create_index(f"ix_lineage_events_{column}", "lineage_events", [column])
    op.create_table(
        "lineage_column_events",
        sa.Column("sequence", BigId, nullable=False, autoincrement=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("source_column", sa.Text(), nullable=False),
        sa.Column("target_column", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_lineage_column_events_event", "lineage_column_events", ["event"])
    counters = op.create_table(
        "lineage_counters",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("column_events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(counters, [{"id": 1, "events": 0, "column_events": 0}])
    op.create_table(
        "lineage_emissions",
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination"),
    )


def _act() -> list[sa.Column[str]]:
    return [
        sa.Column("operation", sa.String(60), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("session", sa.String(255), nullable=False),
        sa.Column("statement", sa.String(255), nullable=False),
        sa.Column("entity_type", sa.String(60), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
    ]


def _seen() -> list[sa.Column[object]]:
    return [
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
    ]
