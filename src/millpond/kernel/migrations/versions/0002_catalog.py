"""Catalogs, schemas and what is in them; `main` and `system` exist from the start."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from millpond.kernel.database import Json, UtcDateTime
from millpond.kernel.ids import new_id

revision = "0002"
down_revision = "0001"

_OWNER = "System user"


def upgrade() -> None:
    """Create the tables of the catalog and its first rows."""
    _create_containers()
    _create_objects()
    _create_housekeeping()
    _insert_built_in()


def _described() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("comment", sa.Text()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("updated_by", sa.String(255), nullable=False),
    ]


def _create_containers() -> None:
    op.create_table(
        "catalog_catalogs",
        *_described(),
        sa.Column("properties", Json, nullable=False),
        sa.Column("storage_root", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "catalog_schemas",
        *_described(),
        sa.Column("catalog_id", sa.String(36), nullable=False),
        sa.Column("properties", Json, nullable=False),
        sa.Column("storage_root", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("catalog_id", "name"),
        sa.ForeignKeyConstraint(["catalog_id"], ["catalog_catalogs.id"]),
    )


def _create_object(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        *_described(),
        sa.Column("schema_id", sa.String(36), nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("schema_id", "name"),
        sa.ForeignKeyConstraint(["schema_id"], ["catalog_schemas.id"]),
    )


def _create_objects() -> None:
    _create_object(
        "catalog_tables",
        sa.Column("table_type", sa.String(20), nullable=False),
        sa.Column("data_source_format", sa.String(40), nullable=False),
        sa.Column("storage_location", sa.Text(), nullable=False),
        sa.Column("columns", Json, nullable=False),
        sa.Column("properties", Json, nullable=False),
        sa.Column("view_definition", sa.Text()),
        sa.Column("constraints", Json, nullable=False),
    )
    op.create_index(None, "catalog_tables", ["storage_location"])
    _create_object(
        "catalog_volumes",
        sa.Column("volume_type", sa.String(20), nullable=False),
        sa.Column("storage_location", sa.Text(), nullable=False),
    )
    op.create_index(None, "catalog_volumes", ["storage_location"])
    _create_object(
        "catalog_functions",
        sa.Column("properties", Json, nullable=False),
        sa.Column("definition", Json, nullable=False),
    )
    _create_object("catalog_models")


def _create_housekeeping() -> None:
    op.create_table(
        "catalog_staged",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(None, "catalog_staged", ["created_at"])
    op.create_table(
        "catalog_purges",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("what", sa.String(800), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(None, "catalog_purges", ["due_at"])
    op.create_table(
        "catalog_uploads",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("overwrite", sa.Boolean(), nullable=False),
        sa.Column("store_token", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(None, "catalog_uploads", ["expires_at"])


def _insert_built_in() -> None:
    catalogs, schemas = _light("catalog_catalogs"), _light("catalog_schemas", sa.column("catalog_id", sa.String))
    main = _row("main", "The catalog that names without a catalog mean.")
    system = _row("system", "What the server tells about itself.")
    default = _row("default", "The schema that names without a schema mean.") | {"catalog_id": main["id"]}
    op.bulk_insert(catalogs, [main, system])
    op.bulk_insert(schemas, [default])


def _light(name: str, *more: sa.ColumnClause[str]) -> sa.TableClause:
    texts = [sa.column(column, sa.String) for column in ("id", "name", "owner", "comment", "created_by", "updated_by")]
    moments = [sa.column("created_at", UtcDateTime()), sa.column("updated_at", UtcDateTime())]
    return sa.table(name, *texts, *moments, sa.column("properties", Json), *more)


def _row(name: str, comment: str) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": new_id(), "name": name, "owner": _OWNER, "comment": comment, "properties": {},
        "created_at": now, "created_by": _OWNER, "updated_at": now, "updated_by": _OWNER,
    }  # fmt: skip
