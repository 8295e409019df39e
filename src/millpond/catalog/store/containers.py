"""SQL of catalogs and schemas."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from millpond.catalog.domain import Catalog, Schema, SchemaName
from millpond.catalog.store.reach import EVERYTHING, Reach
from millpond.catalog.store.schema import catalogs, functions, models, schemas, tables, volumes

_KINDS_IN_SCHEMA = {"table": tables, "volume": volumes, "function": functions, "model": models}


def described(row: Any) -> dict[str, Any]:
    """The columns that every object has but its name."""
    names = ("id", "owner", "comment", "created_at", "created_by", "updated_at", "updated_by")
    return {name: getattr(row, name) for name in names}


def catalog_of(row: Any) -> Catalog:
    """The catalog of a row."""
    return Catalog(**described(row), name=row.name, properties=row.properties, storage_root=row.storage_root)


def schema_of(row: Any) -> Schema:
    """The schema of a row of `select_schemas`."""
    return Schema(
        **described(row),
        name=SchemaName(row.catalog_name, row.name),
        catalog_id=row.catalog_id,
        catalog_owner=row.catalog_owner,
        properties=row.properties,
        storage_root=row.storage_root,
    )


def find_catalog(connection: Connection, name: str, *, lock: bool = False) -> Catalog | None:
    """The catalog with a folded name; with `lock`, held against changes until the transaction ends."""
    query = select(catalogs).where(catalogs.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return catalog_of(row) if row else None


def list_catalogs(connection: Connection, after: str | None, limit: int, reach: Reach) -> list[Catalog]:
    """Catalogs within reach, in the order of their names."""
    query = reach.narrow(select(catalogs), catalogs).order_by(catalogs.c.name).limit(limit)
    if after is not None:
        query = query.where(catalogs.c.name > after)
    return [catalog_of(row) for row in connection.execute(query)]


def insert_catalog(connection: Connection, values: Mapping[str, Any]) -> None:
    """Add a catalog; IntegrityError when the name is taken."""
    connection.execute(insert(catalogs).values(**values))


def update_catalog(connection: Connection, catalog_id: str, values: Mapping[str, Any]) -> None:
    """Change a catalog; IntegrityError when a new name is taken."""
    connection.execute(update(catalogs).where(catalogs.c.id == catalog_id).values(**values))


def delete_catalog(connection: Connection, catalog_id: str) -> None:
    """Remove a catalog that has no schemas left."""
    connection.execute(delete(catalogs).where(catalogs.c.id == catalog_id))


def find_schema(connection: Connection, name: SchemaName, *, lock: bool = False) -> Schema | None:
    """The schema with a name; with `lock`, held against changes until the transaction ends."""
    query = select_schemas().where(catalogs.c.name == name.catalog, schemas.c.name == name.schema)
    row = connection.execute(query.with_for_update(of=schemas) if lock else query).first()
    return schema_of(row) if row else None


def list_schemas(
    connection: Connection, catalog_id: str, after: str | None, limit: int, reach: Reach = EVERYTHING
) -> list[Schema]:
    """Schemas of a catalog within reach, in the order of their names."""
    query = reach.narrow(select_schemas(), schemas, catalogs)
    query = query.where(schemas.c.catalog_id == catalog_id).order_by(schemas.c.name).limit(limit)
    if after is not None:
        query = query.where(schemas.c.name > after)
    return [schema_of(row) for row in connection.execute(query)]


def insert_schema(connection: Connection, values: Mapping[str, Any]) -> None:
    """Add a schema; IntegrityError when the name is taken or the catalog gone."""
    connection.execute(insert(schemas).values(**values))


def update_schema(connection: Connection, schema_id: str, values: Mapping[str, Any]) -> None:
    """Change a schema; IntegrityError when a new name is taken."""
    connection.execute(update(schemas).where(schemas.c.id == schema_id).values(**values))


def delete_schema(connection: Connection, schema_id: str) -> None:
    """Remove a schema that has nothing left in it."""
    connection.execute(delete(schemas).where(schemas.c.id == schema_id))


def kinds_in_schema(connection: Connection, schema_id: str) -> list[str]:
    """Which kinds of objects a schema holds; empty when it is empty."""
    return [
        kind
        for kind, table in _KINDS_IN_SCHEMA.items()
        if connection.execute(select(table.c.id).where(table.c.schema_id == schema_id).limit(1)).first()
    ]


def select_schemas() -> Select[Any]:
    return select(schemas, catalogs.c.name.label("catalog_name"), catalogs.c.owner.label("catalog_owner")).join(
        catalogs, catalogs.c.id == schemas.c.catalog_id
    )
