"""SQL that finds objects by what they are called and by when they changed, wherever they are.

`owners` narrows to what one of these names owns, itself or through a container, and to the built-in catalogs; None
does not narrow. The service decides on each row what may be seen.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, FromClause, Select, Table, func, or_, select

from millpond.catalog.store.containers import select_schemas
from millpond.catalog.store.objects import select_objects
from millpond.catalog.store.schema import catalogs, schemas

Owners = Sequence[str] | None


def objects_named(connection: Connection, table: Table, text: str, owners: Owners, limit: int) -> Sequence[Any]:
    """Rows of objects whose full name holds the text, those with the shortest own names first."""
    full_name = catalogs.c.name + "." + schemas.c.name + "." + table.c.name
    query = select_objects(table).where(full_name.contains(text, autoescape=True))
    return _nearest(connection, _owned(query, owners, table, schemas, catalogs), table, limit)


def schemas_named(connection: Connection, text: str, owners: Owners, limit: int) -> Sequence[Any]:
    """Rows of schemas whose full name holds the text."""
    query = select_schemas().where((catalogs.c.name + "." + schemas.c.name).contains(text, autoescape=True))
    return _nearest(connection, _owned(query, owners, schemas, catalogs), schemas, limit)


def catalogs_named(connection: Connection, text: str, owners: Owners, limit: int) -> Sequence[Any]:
    """Rows of catalogs whose name holds the text."""
    query = select(catalogs).where(catalogs.c.name.contains(text, autoescape=True))
    return _nearest(connection, _owned(query, owners, catalogs), catalogs, limit)


def objects_by_change(connection: Connection, table: Table, owners: Owners, limit: int) -> Sequence[Any]:
    """Rows of objects, last changed first."""
    query = _owned(select_objects(table), owners, table, schemas, catalogs)
    return connection.execute(query.order_by(table.c.updated_at.desc(), table.c.id).limit(limit)).all()


def _owned(query: Select[Any], owners: Owners, *levels: FromClause) -> Select[Any]:
    if owners is None:
        return query
    built_in = catalogs.c.name.in_(("main", "system"))
    return query.where(or_(built_in, *(level.c.owner.in_(owners) for level in levels)))


def _nearest(connection: Connection, query: Select[Any], table: Table, limit: int) -> Sequence[Any]:
    return connection.execute(query.order_by(func.length(table.c.name), table.c.name, table.c.id).limit(limit)).all()
