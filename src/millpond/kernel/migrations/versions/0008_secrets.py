"""Secret scopes, their secrets and ACLs; accounts of identity providers."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the tables, and the one row that names the master key in use."""
    master_key = op.create_table(
        "secrets_master_key",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(master_key, [{"id": 1, "key_id": None}])
    op.create_table(
        "secrets_scopes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("name_key", sa.String(128), nullable=False),
        sa.Column("master_key_id", sa.String(64), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name_key"),
    )
    op.create_table(
        "secrets_secrets",
        sa.Column("scope_id", sa.String(36), nullable=False),
        sa.Column("name_key", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "name_key"),
        sa.ForeignKeyConstraint(["scope_id"], ["secrets_scopes.id"], ondelete="CASCADE"),
    )
    op.create_table(
        "secrets_acls",
        sa.Column("scope_id", sa.String(36), nullable=False),
        sa.Column("principal_id", BigId, autoincrement=False, nullable=False),
        sa.Column("permission", sa.String(10), nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "principal_id"),
        sa.ForeignKeyConstraint(["scope_id"], ["secrets_scopes.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["principal_id"], ["identity_principals.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_secrets_acls_principal_id", "secrets_acls", ["principal_id"])
    op.create_table(
        "identity_logins",
        sa.Column("issuer", sa.String(500), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("principal_id", BigId, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject"),
        sa.ForeignKeyConstraint(["principal_id"], ["identity_principals.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_identity_logins_principal_id", "identity_logins", ["principal_id"])
