"""SQL of tags and of the policies that govern them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from millpond.catalog.domain import Table as CatalogTable
from millpond.catalog.store.containers import select_schemas
from millpond.catalog.store.objects import select_objects
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.schema import catalogs, schemas, tag_policies, tags
from millpond.catalog.tags import TableTags, Tag, TagPolicy
from millpond.kernel.database import among

_AT_ONCE = 5000


def list_tags(connection: Connection, object_id: str, column: str) -> list[Tag]:
    """Tags of an object (`column` is empty) or of a column, by key."""
    query = select(tags).where(tags.c.object_id == object_id, tags.c.column_key == column).order_by(tags.c.key)
    return [
        Tag(key=row.key, value=row.value, updated_at=row.updated_at, updated_by=row.updated_by)
        for row in connection.execute(query)
    ]


def all_on(connection: Connection, object_ids: Sequence[str]) -> Sequence[tuple[str, str, str, str]]:
    """Id, column, key and value of all tags of objects and their columns."""
    query = select(tags.c.object_id, tags.c.column_key, tags.c.key, tags.c.value).where(
        tags.c.object_id.in_(object_ids)
    )
    return [tuple(row) for row in connection.execute(query)]


def of_tables(connection: Connection, found: Sequence[CatalogTable]) -> dict[str, TableTags]:
    """All tags that say something about tables and their columns, by the tables' ids."""
    ids = sorted({each for table in found for each in table.securable.ids})
    own: dict[str, dict[str, dict[str, str]]] = {}
    for start in range(0, len(ids), _AT_ONCE):
        for object_id, column, key, value in all_on(connection, ids[start : start + _AT_ONCE]):
            own.setdefault(object_id, {}).setdefault(column, {})[key] = value
    return {table.id: _of_table(table, own) for table in found}


def _of_table(table: CatalogTable, own: Mapping[str, Mapping[str, Mapping[str, str]]]) -> TableTags:
    containers = (own.get(each, {}).get("", {}) for each in (table.catalog_id, table.schema_id))
    columns = dict(own.get(table.id, {}))
    inherited = {key: value for tags in containers for key, value in tags.items()}
    return TableTags(own=columns.pop("", {}), inherited=inherited, columns=columns)


def put(
    connection: Connection, object_id: str, column: str, values: Mapping[str, str], *, now: datetime, by: str
) -> None:
    """Set tags, those that are there too."""
    insert_ = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    for key, value in values.items():
        row = {"value": value, "updated_at": now, "updated_by": by}
        query = insert_(tags).values(object_id=object_id, column_key=column, key=key, **row)
        connection.execute(query.on_conflict_do_update(index_elements=["object_id", "column_key", "key"], set_=row))


def count(connection: Connection, object_id: str, column: str) -> int:
    """How many tags there are."""
    query = select(func.count()).where(tags.c.object_id == object_id, tags.c.column_key == column)
    return connection.execute(query).scalar_one()


def remove(connection: Connection, object_id: str, column: str, keys: Iterable[str]) -> frozenset[str]:
    """Remove tags; returns the keys that were there."""
    query = delete(tags).where(tags.c.object_id == object_id, tags.c.column_key == column, tags.c.key.in_(list(keys)))
    return frozenset(connection.execute(query.returning(tags.c.key)).scalars())


def forget(connection: Connection, object_ids: Sequence[str]) -> None:
    """Remove all tags of objects that are gone, and of their columns."""
    if object_ids:
        connection.execute(delete(tags).where(among(tags.c.object_id, object_ids)))


def tagged(connection: Connection, table: Table, catalog: str | None, reach: Reach) -> Sequence[Any]:
    """Rows of objects of a kind within reach, in one catalog or all, once for each of their tags and their columns'."""
    levels: tuple[Table, ...] = (table, schemas, catalogs)
    if table is catalogs:
        query, levels = select(catalogs), (catalogs,)
    elif table is schemas:
        query, levels = select_schemas(), (schemas, catalogs)
    else:
        query = select_objects(table)
    shown = (tags.c.column_key.label("tag_column"), tags.c.key.label("tag_key"), tags.c.value.label("tag_value"))
    query = reach.narrow(query.add_columns(*shown).join(tags, tags.c.object_id == table.c.id), *levels)
    if catalog is not None:
        query = query.where(catalogs.c.name == catalog)
    return connection.execute(query.order_by(table.c.name, tags.c.column_key, tags.c.key)).all()


# Policies


def find_policy(connection: Connection, key: str, *, lock: bool = False) -> TagPolicy | None:
    """The policy of a key."""
    query = select(tag_policies).where(tag_policies.c.key == key)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _policy(row) if row else None


def find_policy_by_id(connection: Connection, policy_id: str) -> TagPolicy | None:
    """The policy with an id."""
    row = connection.execute(select(tag_policies).where(tag_policies.c.id == policy_id)).first()
    return _policy(row) if row else None


def list_policies(connection: Connection, after: str | None, limit: int) -> list[TagPolicy]:
    """Policies by key."""
    query = select(tag_policies).order_by(tag_policies.c.key).limit(limit)
    if after is not None:
        query = query.where(tag_policies.c.key > after)
    return [_policy(row) for row in connection.execute(query)]


def governed_among(connection: Connection, keys: Iterable[str]) -> frozenset[str]:
    """Those of some keys that have a policy."""
    query = select(tag_policies.c.key).where(among(tag_policies.c.key, sorted(keys)))
    return frozenset(connection.execute(query).scalars())


def add_policy(connection: Connection, policy: TagPolicy) -> None:
    """Add a policy; IntegrityError when the key has one."""
    values = {"id": policy.id, "key": policy.key, "created_at": policy.created_at}
    connection.execute(insert(tag_policies).values(**values, **_changing(policy)))


def change_policy(connection: Connection, policy: TagPolicy) -> None:
    """Write a policy as it is now."""
    connection.execute(update(tag_policies).where(tag_policies.c.key == policy.key).values(**_changing(policy)))


def delete_policy(connection: Connection, key: str) -> None:
    """Remove a policy; its tags stay where they are."""
    connection.execute(delete(tag_policies).where(tag_policies.c.key == key))


def _changing(policy: TagPolicy) -> dict[str, Any]:
    return {"description": policy.description, "allowed": list(policy.values), "updated_at": policy.updated_at}


def _policy(row: Any) -> TagPolicy:
    return TagPolicy(
        id=row.id, key=row.key, description=row.description, values=tuple(row.allowed), created_at=row.created_at,
        updated_at=row.updated_at,
    )  # fmt: skip
