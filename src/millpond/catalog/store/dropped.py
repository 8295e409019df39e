"""SQL of tables that were dropped and can still be brought back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, literal, select

from millpond.catalog.names import ObjectName, SchemaName
from millpond.catalog.store.objects import select_objects
from millpond.catalog.store.schema import catalogs, dropped_tables, schemas, tables

_KEPT = [column.name for column in tables.c]


def move_out(connection: Connection, table_id: str, *, now: datetime, by: str) -> None:
    """Let a table be a dropped one."""
    moved = select(*tables.c, literal(now, dropped_tables.c.dropped_at.type), literal(by)).where(
        tables.c.id == table_id
    )
    connection.execute(insert(dropped_tables).from_select([*_KEPT, "dropped_at", "dropped_by"], moved))
    connection.execute(delete(tables).where(tables.c.id == table_id))


def move_back(connection: Connection, table_id: str) -> None:
    """Let a dropped table be a table again; IntegrityError when its name is taken."""
    moved = select(*(dropped_tables.c[name] for name in _KEPT)).where(dropped_tables.c.id == table_id)
    connection.execute(insert(tables).from_select(_KEPT, moved))
    connection.execute(delete(dropped_tables).where(dropped_tables.c.id == table_id))


def rows_named(connection: Connection, name: ObjectName, since: datetime) -> Sequence[Any]:
    """Dropped tables of a name that can still be brought back, the last dropped first; locked."""
    where = (catalogs.c.name == name.catalog, schemas.c.name == name.schema, dropped_tables.c.name == name.name)
    return _rows(connection, since, *where, lock=True)


def rows_with_id(connection: Connection, table_id: str, since: datetime) -> Sequence[Any]:
    """The dropped table with an id, if it can still be brought back; locked."""
    return _rows(connection, since, dropped_tables.c.id == table_id, lock=True)


def rows_in(connection: Connection, schema: SchemaName, since: datetime, limit: int) -> Sequence[Any]:
    """Dropped tables of a schema that can still be brought back, the last dropped first."""
    where = (catalogs.c.name == schema.catalog, schemas.c.name == schema.schema)
    return _rows(connection, since, *where)[:limit]


def _rows(connection: Connection, since: datetime, *where: Any, lock: bool = False) -> Sequence[Any]:
    query = select_objects(dropped_tables).where(dropped_tables.c.dropped_at > since, *where)
    query = query.order_by(dropped_tables.c.dropped_at.desc(), dropped_tables.c.id.desc())
    return connection.execute(query.with_for_update(of=dropped_tables) if lock else query).all()


def forget_until(connection: Connection, until: datetime) -> Sequence[str]:
    """Give up what was dropped until a time; the ids."""
    query = delete(dropped_tables).where(dropped_tables.c.dropped_at <= until)
    return connection.execute(query.returning(dropped_tables.c.id)).scalars().all()


def forget_in(connection: Connection, schema_id: str) -> Sequence[str]:
    """Give up what was dropped in a schema; the ids."""
    query = delete(dropped_tables).where(dropped_tables.c.schema_id == schema_id)
    return connection.execute(query.returning(dropped_tables.c.id)).scalars().all()
