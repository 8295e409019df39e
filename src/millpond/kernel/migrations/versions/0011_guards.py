"""Row filters and column masks of tables."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    """Tables note what decides about their rows and values; none does yet."""
    op.add_column("catalog_tables", sa.Column("guards", Json))
