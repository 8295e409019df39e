"""Usage records, prices, budgets with what they told, and quotas; the processor time of statements."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "billing_usage",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("hour", UtcDateTime(), nullable=False),
        sa.Column("sku", sa.String(60), nullable=False),
        sa.Column("resource", sa.String(20), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("product", sa.String(30), nullable=False),
        sa.Column("run_as", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("object_id", sa.String(255), nullable=False),
        sa.Column("object_name", sa.Text(), nullable=False),
        sa.Column("run_id", sa.BigInteger()),
        sa.Column("cluster_id", sa.String(40), nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("included", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_usage")),
    )
    op.create_index("ix_billing_usage_hour", "billing_usage", ["hour"])
    op.create_index("ix_billing_usage_run_as_hour", "billing_usage", ["run_as", "hour"])
    op.create_index("ix_billing_usage_run_id", "billing_usage", ["run_id"])
    op.add_column("sql_statements", sa.Column("spent_ms", sa.BigInteger()))
    op.create_table(
        "billing_prices",
        sa.Column("sku", sa.String(60), nullable=False),
        sa.Column("start", UtcDateTime(), nullable=False),
        sa.Column("end", UtcDateTime()),
        sa.Column("amount", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sku", "start", name=op.f("pk_billing_prices")),
    )
    op.create_table(
        "billing_budgets",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("scope", Json, nullable=False),
        sa.Column("alerts", Json, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_budgets")),
    )
    op.create_table(
        "billing_told",
        sa.Column("alert_id", sa.String(36), nullable=False),
        sa.Column("period_start", UtcDateTime(), nullable=False),
        sa.Column("budget_id", sa.String(36), nullable=False),
        sa.Column("spent", sa.Double(), nullable=False),
        sa.Column("told_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", "period_start", name=op.f("pk_billing_told")),
    )
    op.create_table(
        "billing_quotas",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("holder", sa.String(10), nullable=False),
        sa.Column("name", sa.String(520), nullable=False),
        sa.Column("measure", sa.String(30), nullable=False),
        sa.Column("limit", sa.Double(), nullable=False),
        sa.Column("period", sa.String(10)),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_quotas")),
    )
