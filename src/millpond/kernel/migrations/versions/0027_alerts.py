"""Alerts and their evaluations."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "sql_alerts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("modified_by", sa.String(255), nullable=False),
        sa.Column("trashed", sa.Boolean(), nullable=False),
        sa.Column("query_id", sa.String(36)),
        sa.Column("draft", Json, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("settled", sa.String(20), nullable=False),
        sa.Column("error_told", sa.Boolean(), nullable=False),
        sa.Column("evaluated_at", UtcDateTime()),
        sa.Column("triggered_at", UtcDateTime()),
        sa.Column("told_at", UtcDateTime()),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sql_alerts")),
    )
    op.create_index("ix_sql_alerts_owner_id", "sql_alerts", ["owner", "id"])
    op.create_index("ix_sql_alerts_due_at", "sql_alerts", ["due_at"])
    op.create_table(
        "sql_alert_evaluations",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("alert_id", sa.String(36), nullable=False),
        sa.Column("cause", sa.String(20), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("state", sa.String(20)),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sql_alert_evaluations")),
    )
    op.create_index("ix_sql_alert_evaluations_alert_id_id", "sql_alert_evaluations", ["alert_id", "id"])
    op.create_index("ix_sql_alert_evaluations_started_at", "sql_alert_evaluations", ["started_at"])
    op.create_index(
        "ix_sql_alert_evaluations_under_way",
        "sql_alert_evaluations",
        ["alert_id"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
