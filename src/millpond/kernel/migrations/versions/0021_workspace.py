"""The tree of the workspace, and what its notebooks and files hold."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import UtcDateTime

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "workspace_objects",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parent_id", sa.BigInteger()),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("type", sa.String(20), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("language", sa.String(20)),
        sa.Column("kept", sa.String(20), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("modified_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspace_objects")),
        sa.UniqueConstraint("path", name=op.f("uq_workspace_objects_path")),
    )
    op.create_index("ix_workspace_objects_parent_id", "workspace_objects", ["parent_id"])
    op.create_table(
        "workspace_contents",
        sa.Column("object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_workspace_contents")),
        sa.ForeignKeyConstraint(
            ["object_id"], ["workspace_objects.id"], name=op.f("fk_workspace_contents_object_id_workspace_objects"),
            ondelete="CASCADE",
        ),
    )  # fmt: skip
