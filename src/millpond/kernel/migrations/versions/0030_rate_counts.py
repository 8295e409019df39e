"""What servers tell each other of the calls that they have let through."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "serving_rate_counts",
        sa.Column("server", sa.String(36), nullable=False),
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("limit_key", sa.String(20), nullable=False),
        sa.Column("counted_as", sa.String(255), nullable=False),
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "server", "endpoint_id", "limit_key", "counted_as", "minute", name=op.f("pk_serving_rate_counts")
        ),
    )
