"""Tags and the policies that govern them."""

import sqlalchemy as sa
from alembic import op

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Json, UtcDateTime
from millpond.kernel.ids import new_id

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the tables of tags, and the policy of the tag that comes with the server."""
    op.create_table(
        "catalog_tags",
        sa.Column("object_id", sa.String(36), nullable=False),
        sa.Column("column_key", sa.Text(), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("updated_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("object_id", "column_key", "key"),
    )
    op.create_index("ix_catalog_tags_key", "catalog_tags", ["key"])
    policies = op.create_table(
        "catalog_tag_policies",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("allowed", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("id"),
    )
    _index_columns()
    _keep_dropped_tables()
    _let_everybody_use_the_starter()
    now = utc_now()
    op.bulk_insert(
        policies,
        [
            {
                "key": "system.certification_status",
                "id": new_id(),
                "description": "Whether an object can be relied on, or should not be used any more.",
                "allowed": ["certified", "deprecated"],
                "created_at": now,
                "updated_at": now,
            }
        ],
    )


def _index_columns() -> None:
    """Let names and comments of columns be found."""
    op.add_column("catalog_tables", sa.Column("column_words", sa.Text(), nullable=False, server_default=""))
    tables = sa.table("catalog_tables", sa.column("id"), sa.column("columns", Json), sa.column("column_words"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(tables.c.id, tables.c.columns)).all():
        words = "\n".join(f"{column['name']} {column.get('comment') or ''}".strip().lower() for column in row.columns)
        connection.execute(sa.update(tables).where(tables.c.id == row.id).values(column_words=words))


def _let_everybody_use_the_starter() -> None:
    """Grant what everybody could do so far with the warehouse that exists from the start."""
    principals = sa.table("identity_principals", sa.column("id"), sa.column("name_key"))
    users = op.get_bind().execute(sa.select(principals.c.id).where(principals.c.name_key == "users")).scalar_one()
    grants = sa.table(
        "identity_grants", sa.column("securable_id"), sa.column("grantee_id"), sa.column("privilege"),
        sa.column("securable_kind"), sa.column("granted_by"), sa.column("granted_at", UtcDateTime()),
    )  # fmt: skip
    op.execute(
        sa.insert(grants).values(
            securable_id="warehouse starter", grantee_id=users, privilege="CAN_USE", securable_kind="warehouse",
            granted_by="System user", granted_at=utc_now(),
        )
    )  # fmt: skip


def _keep_dropped_tables() -> None:
    op.create_table(
        "catalog_dropped_tables",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("comment", sa.Text()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("updated_by", sa.String(255), nullable=False),
        sa.Column("schema_id", sa.String(36), nullable=False),
        sa.Column("table_type", sa.String(20), nullable=False),
        sa.Column("data_source_format", sa.String(40), nullable=False),
        sa.Column("storage_location", sa.Text(), nullable=False),
        sa.Column("columns", Json, nullable=False),
        sa.Column("column_words", sa.Text(), nullable=False),
        sa.Column("properties", Json, nullable=False),
        sa.Column("view_definition", sa.Text()),
        sa.Column("constraints", Json, nullable=False),
        sa.Column("dropped_at", UtcDateTime(), nullable=False),
        sa.Column("dropped_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["schema_id"], ["catalog_schemas.id"]),
    )
    for columns in (["schema_id", "name"], ["dropped_at"], ["storage_location"]):
        op.create_index(f"ix_catalog_dropped_tables_{'_'.join(columns)}", "catalog_dropped_tables", columns)
