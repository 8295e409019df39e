"""Row filters and column masks of tables."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Tables note what decides about their rows and values; none does yet."""
    for table in ("catalog_tables", "catalog_dropped_tables"):
        op.add_column(table, sa.Column("guards", Json))
