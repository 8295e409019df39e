"""What somebody chose for their pages."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of preferences."""
    op.create_table(
        "ui_preferences",
        sa.Column("principal_id", sa.String(36), nullable=False),
        sa.Column("theme", sa.String(10), nullable=False),
        sa.PrimaryKeyConstraint("principal_id"),
    )
