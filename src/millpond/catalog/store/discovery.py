"""SQL that finds objects by what they are called and by when they changed, within somebody's reach."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from millpond.catalog.store.containers import select_schemas
from millpond.catalog.store.objects import select_objects
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.schema import catalogs, schemas


def objects_named(connection: Connection, table: Table, text: str, reach: Reach, limit: int) -> Sequence[Any]:
    """Rows of objects whose full name holds the text, those with the shortest own names first."""
    full_name = catalogs.c.name + "." + schemas.c.name + "." + table.c.name
    query = select_objects(table).where(full_name.contains(text, autoescape=True))
    return _nearest(connection, reach.narrow(query, table, schemas, catalogs), table, limit)


def schemas_named(connection: Connection, text: str, reach: Reach, limit: int) -> Sequence[Any]:
    """Rows of schemas whose full name holds the text."""
    query = select_schemas().where((catalogs.c.name + "." + schemas.c.name).contains(text, autoescape=True))
    return _nearest(connection, reach.narrow(query, schemas, catalogs), schemas, limit)


def catalogs_named(connection: Connection, text: str, reach: Reach, limit: int) -> Sequence[Any]:
    """Rows of catalogs whose name holds the text."""
    query = select(catalogs).where(catalogs.c.name.contains(text, autoescape=True))
    return _nearest(connection, reach.narrow(query, catalogs), catalogs, limit)


def objects_by_change(connection: Connection, table: Table, reach: Reach, limit: int) -> Sequence[Any]:
    """Rows of objects, last changed first."""
    query = reach.narrow(select_objects(table), table, schemas, catalogs)
    return connection.execute(query.order_by(table.c.updated_at.desc(), table.c.id).limit(limit)).all()


def _nearest(connection: Connection, query: Select[Any], table: Table, limit: int) -> Sequence[Any]:
    return connection.execute(query.order_by(func.length(table.c.name), table.c.name, table.c.id).limit(limit)).all()
