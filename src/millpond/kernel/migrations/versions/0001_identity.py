"""Principals, their groups and their credentials."""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId, Json, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of identity, the built-in groups and this workspace's number."""
    principals = op.create_table(
        "identity_principals",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("name_key", sa.String(255), nullable=False),
        sa.Column("display_name", sa.String(255), nullable=False),
        sa.Column("display_key", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("external_id", sa.String(255)),
        sa.Column("password_hash", sa.String(255)),
        sa.Column("profile", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "identity_memberships",
        sa.Column("group_id", BigId, nullable=False),
        sa.Column("member_id", BigId, nullable=False),
        sa.PrimaryKeyConstraint("group_id", "member_id"),
        sa.ForeignKeyConstraint(["group_id"], ["identity_principals.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["member_id"], ["identity_principals.id"], ondelete="CASCADE"),
    )
    op.create_index(None, "identity_memberships", ["member_id"])
    op.create_table(
        "identity_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("principal_id", BigId, nullable=False),
        sa.Column("parent_id", sa.String(36)),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("comment", sa.String(1000), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_hash"),
        sa.ForeignKeyConstraint(["principal_id"], ["identity_principals.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["parent_id"], ["identity_tokens.id"], ondelete="CASCADE"),
    )
    op.create_index(None, "identity_tokens", ["principal_id"])
    op.create_index(None, "identity_tokens", ["parent_id"])
    workspace = op.create_table("identity_workspace", sa.Column("workspace_id", sa.BigInteger(), primary_key=True))
    _fill(principals, workspace)


def _fill(principals: sa.Table, workspace: sa.Table) -> None:
    now = datetime.now(UTC)
    for name in ("admins", "users"):
        op.execute(
            principals.insert().values(
                kind="group",
                name=name,
                name_key=name,
                display_name=name,
                display_key=name,
                active=True,
                profile={},
                created_at=now,
            )
        )
    # sixteen digits, as clients are used to; below 2^53, so that JavaScript keeps it exactly
    op.execute(workspace.insert().values(workspace_id=10**15 + secrets.randbelow(7 * 10**15)))
