"""Clusters with their events, libraries, contexts and commands; policies and pools; the cluster of a task's run."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId, Json, UtcDateTime

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "compute_clusters",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("termination", Json, nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("server", sa.String(36), nullable=False),
        sa.Column("alive_until", UtcDateTime()),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("run_id", BigId),
        sa.Column("token", sa.String(300)),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("restarted_at", UtcDateTime()),
        sa.Column("terminated_at", UtcDateTime()),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_clusters")),
        sa.UniqueConstraint("token", name=op.f("uq_compute_clusters_token")),
    )
    op.create_index("ix_compute_clusters_state", "compute_clusters", ["state"])
    op.create_table(
        "compute_events",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("cluster_id", sa.String(40), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_events")),
    )
    op.create_index("ix_compute_events_cluster_id", "compute_events", ["cluster_id"])
    op.create_table(
        "compute_libraries",
        sa.Column("cluster_id", sa.String(40), nullable=False),
        sa.Column("key", sa.String(500), nullable=False),
        sa.Column("library", Json, nullable=False),
        sa.Column("status", sa.String(30), nullable=False),
        sa.Column("messages", Json, nullable=False),
        sa.Column("added_by", sa.String(255), nullable=False),
        sa.Column("serial", BigId, nullable=False),
        sa.PrimaryKeyConstraint("cluster_id", "key", name=op.f("pk_compute_libraries")),
    )
    _create_policies_and_pools()
    _create_contexts()
    op.add_column("job_task_runs", sa.Column("cluster_id", sa.String(40), nullable=False, server_default=""))


def _create_policies_and_pools() -> None:
    op.create_table(
        "compute_policies",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("family_id", sa.String(60), nullable=False),
        sa.Column("overrides", sa.Text(), nullable=False),
        sa.Column("max_clusters", sa.Integer()),
        sa.Column("libraries", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_policies")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_policies_name")),
    )
    op.create_table(
        "compute_pools",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("node_type_id", sa.String(40), nullable=False),
        sa.Column("min_idle", sa.Integer(), nullable=False),
        sa.Column("max_capacity", sa.Integer()),
        sa.Column("idle_minutes", sa.Integer(), nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("versions", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_pools")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_pools_name")),
    )


def _create_contexts() -> None:
    op.create_table(
        "compute_contexts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("cluster_id", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("ending", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_contexts")),
    )
    op.create_index("ix_compute_contexts_cluster_id", "compute_contexts", ["cluster_id"])
    op.create_table(
        "compute_commands",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("context_id", sa.String(36), nullable=False),
        sa.Column("cluster_id", sa.String(40), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("results", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_commands")),
    )
    op.create_index("ix_compute_commands_context_id", "compute_commands", ["context_id"])
    op.create_index("ix_compute_commands_cluster_id_state", "compute_commands", ["cluster_id", "state"])
