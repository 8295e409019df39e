"""SQL that tables, volumes, functions and models share: find, list, insert, update and delete in a schema."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from millpond.catalog.names import ObjectName
from millpond.catalog.store.containers import described
from millpond.catalog.store.reach import EVERYTHING, Q, Reach
from millpond.catalog.store.schema import (
    catalogs,
    dropped_tables,
    functions,
    models,
    policies,
    schemas,
    tables,
    volumes,
)

_AT_ONCE = 5000
"""SQLite takes 32,766 parameters in one statement."""


def in_schema(row: Any) -> dict[str, Any]:
    """The fields that every object in a schema has, from a row of `select_objects`."""
    return {
        **described(row),
        "name": ObjectName(row.catalog_name, row.schema_name, row.name),
        "schema_id": row.schema_id,
        "schema_owner": row.schema_owner,
        "catalog_id": row.catalog_id,
        "catalog_owner": row.catalog_owner,
    }


def find_row(connection: Connection, table: Table, name: ObjectName, *, lock: bool = False) -> Any | None:
    """The row of the object with a name; with `lock`, held against changes until the transaction ends."""
    values = {"catalog": name.catalog, "schema": name.schema, "name": name.name}
    return connection.execute(_by_name(table, lock=lock), values).first()


@cache
def _by_name(table: Table, *, lock: bool) -> Select[Any]:
    """Built once: the gateway finds tables by name in each query, and building it costs more than running it."""
    query = select_objects(table).where(
        catalogs.c.name == bindparam("catalog"),
        schemas.c.name == bindparam("schema"),
        table.c.name == bindparam("name"),
    )
    return query.with_for_update(of=table) if lock else query


def find_row_by_id(connection: Connection, table: Table, object_id: str) -> Any | None:
    """The row of the object with an id."""
    return connection.execute(select_objects(table).where(table.c.id == object_id)).first()


def rows_with_ids(connection: Connection, table: Table, ids: Sequence[str]) -> Sequence[Any]:
    """The rows of the objects with these ids."""
    found: list[Any] = []
    for start in range(0, len(ids), _AT_ONCE):
        found += connection.execute(select_objects(table).where(table.c.id.in_(ids[start : start + _AT_ONCE])))
    return found


def list_rows(
    connection: Connection, table: Table, schema_id: str, after: str | None, limit: int, reach: Reach = EVERYTHING
) -> Sequence[Any]:
    """Rows of a schema's objects within reach, in the order of their names."""
    query = reach.narrow(select_objects(table), table, schemas, catalogs)
    query = query.where(table.c.schema_id == schema_id).order_by(table.c.name).limit(limit)
    if after is not None:
        query = query.where(table.c.name > after)
    return connection.execute(query).all()


def rows_with_locations(connection: Connection, table: Table, locations: Sequence[str]) -> Sequence[Any]:
    """Rows whose storage location is one of these."""
    return connection.execute(select_objects(table).where(table.c.storage_location.in_(locations))).all()


def locations_below(connection: Connection, table: Table, location: str, *reach: Reach) -> Sequence[str]:
    """Storage locations below this one, of the objects within all that is reached."""
    query = _within_containers(select(table.c.storage_location), table)
    query = query.where(func.substr(table.c.storage_location, 1, len(location) + 1) == location + "/")
    for each in reach:
        query = each.narrow(query, table, schemas, catalogs)
    return connection.execute(query).scalars().all()


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Add an object; IntegrityError when the name is taken or the schema gone."""
    connection.execute(insert(table).values(**values))


def update_row(connection: Connection, table: Table, object_id: str, values: Mapping[str, Any]) -> bool:
    """Change an object; whether it still exists. IntegrityError when a new name is taken."""
    return connection.execute(update(table).where(table.c.id == object_id).values(**values)).rowcount == 1


def delete_row(connection: Connection, table: Table, object_id: str) -> bool:
    """Remove an object; whether it was there."""
    return connection.execute(delete(table).where(table.c.id == object_id)).rowcount == 1


def select_objects(table: Table) -> Select[Any]:
    """Objects with the names and owners of their containers; of tables, whether a policy is set on these or on them."""
    more = (_policed(table).label("policed"),) if table in (tables, dropped_tables) else ()
    return (
        select(
            table,
            schemas.c.name.label("schema_name"),
            schemas.c.owner.label("schema_owner"),
            schemas.c.catalog_id,
            catalogs.c.name.label("catalog_name"),
            catalogs.c.owner.label("catalog_owner"),
            *more,
        )
        .join(schemas, schemas.c.id == table.c.schema_id)
        .join(catalogs, catalogs.c.id == schemas.c.catalog_id)
    )


def _policed(table: Table) -> ColumnElement[bool]:
    places = (table.c.id, schemas.c.id, catalogs.c.id)
    return exists().where(policies.c.securable_id.in_(places)).correlate(table, schemas, catalogs)


def select_full_names(table: Table, reach: Reach) -> Select[tuple[str]]:
    """Full names of the objects within reach."""
    full_name = catalogs.c.name + "." + schemas.c.name + "." + table.c.name
    query = _within_containers(select(full_name.label("full_name")), table)
    return reach.narrow(query, table, schemas, catalogs)


def _within_containers(query: Q, table: Table) -> Q:
    query = query.select_from(table).join(schemas, schemas.c.id == table.c.schema_id)
    return query.join(catalogs, catalogs.c.id == schemas.c.catalog_id)


def page_of_full_names(
    connection: Connection, names: Select[tuple[str]], *, catalog: str | None, after: str | None, limit: int
) -> Sequence[str]:
    """Names that `select_full_names` selects, in their order, after one of them."""
    if catalog is not None:
        names = names.where(catalogs.c.name == catalog)
    found = names.subquery()
    query = select(found.c.full_name).order_by(found.c.full_name).limit(limit)
    if after is not None:
        query = query.where(found.c.full_name > after)
    return connection.execute(query).scalars().all()


def delete_rows_in(connection: Connection, schema_id: str) -> Sequence[str]:
    """Remove every object of a schema; returns their ids."""
    ids: list[str] = []
    for table in (tables, volumes, functions, models):
        query = delete(table).where(table.c.schema_id == schema_id).returning(table.c.id)
        ids += connection.execute(query).scalars()
    return ids


def guarded_rows(connection: Connection) -> Sequence[Any]:
    """Every table that has a row filter or masks."""
    return connection.execute(select_objects(tables).where(tables.c.guards.is_not(null()))).all()


def guarded_rows_below(connection: Connection, location: str) -> Sequence[Any]:
    """The tables below a location, dropped ones too, that have a row filter or masks or may be under a policy."""
    found: list[Any] = []
    for table in (tables, dropped_tables):
        query = select_objects(table).where(or_(table.c.guards.is_not(null()), _policed(table)))
        query = query.where(func.substr(table.c.storage_location, 1, len(location) + 1) == location + "/")
        found += connection.execute(query)
    return found


def all_rows(connection: Connection, table: Table) -> Sequence[Any]:
    """Every object of a kind, in every schema."""
    return connection.execute(select_objects(table)).all()


def rename_owner(connection: Connection, old: str, new: str) -> None:
    """Let what one name owns be owned by another, as when a group is renamed."""
    for table in (catalogs, schemas, tables, dropped_tables, volumes, functions, models):
        connection.execute(update(table).where(table.c.owner == old).values(owner=new))
