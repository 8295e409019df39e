"""Warehouses, statements and saved queries."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Json, UtcDateTime

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables of SQL, and the warehouse that exists from the start."""
    warehouses = op.create_table(
        "sql_warehouses",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("cluster_size", sa.String(20), nullable=False),
        sa.Column("max_clusters", sa.Integer(), nullable=False),
        sa.Column("auto_stop_mins", sa.Integer(), nullable=False),
        sa.Column("statement_timeout_s", sa.Integer(), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "sql_statements",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("principal_id", sa.String(36), nullable=False),
        sa.Column("principal_name", sa.String(255), nullable=False),
        sa.Column("warehouse_id", sa.String(36), nullable=False),
        sa.Column("session_id", sa.String(36)),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("disposition", sa.String(30), nullable=False),
        sa.Column("format", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("error_code", sa.String(40)),
        sa.Column("error_message", sa.Text()),
        sa.Column("sql_state", sa.String(10)),
        sa.Column("manifest", Json),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sql_statements_principal_id_id", "sql_statements", ["principal_id", "id"])
    op.create_index("ix_sql_statements_state_ended_at", "sql_statements", ["state", "ended_at"])
    op.create_table(
        "sql_queries",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("modified_by", sa.String(255), nullable=False),
        sa.Column("trashed", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("catalog", sa.String(255)),
        sa.Column("schema", sa.String(255)),
        sa.Column("warehouse_id", sa.String(36)),
        sa.Column("tags", Json, nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sql_queries_owner_id", "sql_queries", ["owner", "id"])
    op.bulk_insert(
        warehouses,
        [
            {
                "id": "starter",
                "name": "Starter Warehouse",
                "creator": "System user",
                "state": "RUNNING",
                "cluster_size": "Small",
                "max_clusters": 1,
                "auto_stop_mins": 120,
                "statement_timeout_s": 0,
                "details": {},
                "created_at": utc_now(),
            }
        ],
    )
