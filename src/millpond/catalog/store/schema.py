"""The tables of the catalog, as SQLAlchemy sees them."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, Text, UniqueConstraint

from millpond.kernel.database import Json, UtcDateTime, metadata

_NAME = 255


def _described() -> list[Column[object]]:
    return [
        Column("id", String(36), primary_key=True),
        Column("name", String(_NAME), nullable=False),
        Column("owner", String(_NAME), nullable=False),
        Column("comment", Text),
        Column("created_at", UtcDateTime, nullable=False),
        Column("created_by", String(_NAME), nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        Column("updated_by", String(_NAME), nullable=False),
    ]


def _schema_id() -> Column[object]:
    return Column("schema_id", String(36), ForeignKey("catalog_schemas.id"), nullable=False)


catalogs = Table(
    "catalog_catalogs",
    metadata,
    *_described(),
    Column("properties", Json, nullable=False),
    Column("storage_root", Text),
    UniqueConstraint("name"),
)

schemas = Table(
    "catalog_schemas",
    metadata,
    *_described(),
    Column("catalog_id", String(36), ForeignKey("catalog_catalogs.id"), nullable=False),
    Column("properties", Json, nullable=False),
    Column("storage_root", Text),
    UniqueConstraint("catalog_id", "name"),
)


def _of_tables() -> list[Column[object]]:
    return [
        *_described(),
        _schema_id(),
        Column("table_type", String(20), nullable=False),
        Column("data_source_format", String(40), nullable=False),
        Column("storage_location", Text, nullable=False, index=True),
        Column("columns", Json, nullable=False),
        Column("column_words", Text, nullable=False),  # names and comments of the columns, in lower case, to search in
        Column("properties", Json, nullable=False),
        Column("view_definition", Text),
        Column("constraints", Json, nullable=False),
        Column("guards", Json),  # row filter and masks; null for nearly all tables
    ]


tables = Table("catalog_tables", metadata, *_of_tables(), UniqueConstraint("schema_id", "name"))

dropped_tables = Table(
    "catalog_dropped_tables",
    metadata,
    *_of_tables(),
    Column("dropped_at", UtcDateTime, nullable=False),
    Column("dropped_by", String(_NAME), nullable=False),
    Index(None, "schema_id", "name"),
    Index(None, "dropped_at"),
)
"""Tables as they were, for as long as they can be brought back; their grants and tags stay where they are."""

volumes = Table(
    "catalog_volumes",
    metadata,
    *_described(),
    _schema_id(),
    Column("volume_type", String(20), nullable=False),
    Column("storage_location", Text, nullable=False, index=True),
    UniqueConstraint("schema_id", "name"),
)

functions = Table(
    "catalog_functions",
    metadata,
    *_described(),
    _schema_id(),
    Column("properties", Json, nullable=False),
    Column("definition", Json, nullable=False),
    UniqueConstraint("schema_id", "name"),
)

models = Table("catalog_models", metadata, *_described(), _schema_id(), UniqueConstraint("schema_id", "name"))

staged = Table(
    "catalog_staged",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("location", Text, nullable=False),  # empty when the files are not ours
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(_NAME), nullable=False),
    Index(None, "created_at"),
)

purges = Table(
    "catalog_purges",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("location", Text, nullable=False),
    Column("what", String(800), nullable=False),  # kind and name, for logs
    Column("due_at", UtcDateTime, nullable=False),
    Index(None, "due_at"),
)

tags = Table(
    "catalog_tags",
    metadata,
    Column("object_id", String(36), primary_key=True),
    Column("column_key", Text, primary_key=True),  # the column's name in lower case; empty for the object's own
    Column("key", String(_NAME), primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("updated_by", String(_NAME), nullable=False),
    Index(None, "key"),
)

tag_policies = Table(
    "catalog_tag_policies",
    metadata,
    Column("key", String(_NAME), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("allowed", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

policies = Table(
    "catalog_policies",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("securable_id", String(36), nullable=False),  # of the catalog, schema or table on which it is set
    Column("name", String(_NAME), nullable=False),
    Column("function_id", String(36), nullable=False, index=True),
    Column("terms", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(_NAME), nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("updated_by", String(_NAME), nullable=False),
    UniqueConstraint("securable_id", "name"),
)

uploads = Table(
    "catalog_uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("path", Text, nullable=False),  # as the client wrote it, resolved again at each step
    Column("overwrite", Boolean, nullable=False),
    Column("store_token", Text, nullable=False),  # what the storage needs to find its parts again
    Column("created_by", String(_NAME), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "expires_at"),
)
