"""What a served entity's workers compute on."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Add the column."""
    op.add_column("serving_entities", sa.Column("workload_type", sa.String(20), nullable=False, server_default="CPU"))
