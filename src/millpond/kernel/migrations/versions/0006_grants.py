"""Privileges granted to principals, and what everybody has from the start."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import BigId, UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables of grants; grant `users` what every signed-in principal could do until now."""
    grants = op.create_table(
        "identity_grants",
        sa.Column("securable_id", sa.String(300), nullable=False),
        sa.Column("grantee_id", BigId, nullable=False),
        sa.Column("privilege", sa.String(40), nullable=False),
        sa.Column("securable_kind", sa.String(40), nullable=False),
        sa.Column("granted_by", sa.String(255), nullable=False),
        sa.Column("granted_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("securable_id", "grantee_id", "privilege"),
        sa.ForeignKeyConstraint(["grantee_id"], ["identity_principals.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_identity_grants_grantee_id", "identity_grants", ["grantee_id"])
    epochs = op.create_table(
        "identity_grants_epoch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", BigId, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(epochs.insert().values(id=1, epoch=0))
    _grant_everybody(grants)


def _grant_everybody(grants: sa.Table) -> None:
    connection = op.get_bind()
    principals = sa.table("identity_principals", sa.column("id"), sa.column("name_key"))
    users = connection.execute(sa.select(principals.c.id).where(principals.c.name_key == "users")).scalar_one()
    catalogs = sa.table("catalog_catalogs", sa.column("id"), sa.column("name"))
    schemas = sa.table("catalog_schemas", sa.column("id"), sa.column("name"), sa.column("catalog_id"))
    ids = {row.name: row.id for row in connection.execute(sa.select(catalogs))}
    default = sa.select(schemas.c.id).where(schemas.c.catalog_id == ids["main"], schemas.c.name == "default")
    found = [
        ("metastore", "metastore", "CREATE_CATALOG"),
        ("catalog", ids["main"], "USE_CATALOG"),
        ("catalog", ids["system"], "USE_CATALOG"),
        ("schema", connection.execute(default).scalar_one(), "USE_SCHEMA"),
    ]
    now = datetime.now(UTC)
    op.bulk_insert(
        grants,
        [
            {"securable_id": securable_id, "grantee_id": users, "privilege": privilege, "securable_kind": kind,
             "granted_by": "System user", "granted_at": now}
            for kind, securable_id, privilege in found
        ],
    )  # fmt: skip
