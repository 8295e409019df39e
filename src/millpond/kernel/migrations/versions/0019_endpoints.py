"""Served entities that follow an alias or a stage, and that say how many requests they are meant for."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("serving_configs", sa.Column("followed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("serving_entities", sa.Column("reference", sa.String(300), nullable=False, server_default=""))
    op.add_column("serving_entities", sa.Column("reference_note", sa.Text(), nullable=False, server_default=""))
    for name in ("min_concurrency", "max_concurrency"):
        op.add_column("serving_entities", sa.Column(name, sa.Integer()))
