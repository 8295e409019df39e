"""Saved queries: read, added, changed, put into the trash."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Select,
    String,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    update,
)

from millpond.kernel.database import Json, UtcDateTime, folded, metadata
from millpond.sql.domain import QueryDraft, SavedQuery

queries = Table(
    "sql_queries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("modified_by", String(255), nullable=False),
    Column("trashed", Boolean, nullable=False),
    Column("text", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("catalog", String(255)),
    Column("schema", String(255)),
    Column("warehouse_id", String(36)),
    Column("tags", Json, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("details", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_sql_queries_owner_id", "owner", "id"),
)


def find(connection: Connection, query_id: str, *, lock: bool = False) -> SavedQuery | None:
    """The query with an id, also one in the trash; `lock` keeps others from changing it."""
    if "\0" in query_id:  # which PostgreSQL refuses, and no id has
        return None
    query = select(queries).where(queries.c.id == query_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _query(row) if row else None


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What these own, and these."""

    owners: frozenset[str]
    ids: frozenset[str]

    def of(self, table: Table) -> ColumnElement[bool]:
        """Those rows of a table with owners and ids."""
        return or_(table.c.owner.in_(sorted(self.owners)), table.c.id.in_(sorted(self.ids)))


def list_page(connection: Connection, reach: Reach | None, *, after: str | None, limit: int) -> Sequence[SavedQuery]:
    """Queries outside the trash in the order in which they were made; `reach` None for everybody's."""
    query = _within(reach).order_by(queries.c.id).limit(limit)
    if after is not None:
        query = query.where(queries.c.id > after)
    return [_query(row) for row in connection.execute(query)]


def holding(connection: Connection, words: Sequence[str], reach: Reach | None, *, limit: int) -> Sequence[SavedQuery]:
    """Queries outside the trash that hold all of the words, last changed first; `reach` None for everybody's."""
    told = queries.c.name + " " + queries.c.description + " " + queries.c.text + " " + queries.c.owner
    query = _within(reach).where(*(folded(told).contains(word, autoescape=True) for word in words))
    return [_query(row) for row in connection.execute(query.order_by(queries.c.updated_at.desc()).limit(limit))]


def _within(reach: Reach | None) -> Select[Any]:
    query = select(queries).where(queries.c.trashed.is_(False))
    return query if reach is None else query.where(reach.of(queries))


def add(connection: Connection, query: SavedQuery) -> None:
    """Add a query."""
    connection.execute(insert(queries).values(id=query.id, created_at=query.created_at, **_values(query)))


def change(connection: Connection, query: SavedQuery) -> None:
    """Write a query as it is now."""
    connection.execute(update(queries).where(queries.c.id == query.id).values(**_values(query)))


def rename_owner(connection: Connection, old: str, new: str) -> None:
    """Let what one name owns be owned by another, as when a group is renamed."""
    connection.execute(update(queries).where(queries.c.owner == old).values(owner=new))


def purge(connection: Connection, before: datetime) -> Sequence[str]:
    """Forget what was put into the trash before a time; the ids."""
    old = delete(queries).where(queries.c.trashed.is_(True), queries.c.updated_at < before)
    return connection.execute(old.returning(queries.c.id)).scalars().all()


def _values(query: SavedQuery) -> dict[str, Any]:
    draft = query.draft
    return {
        "name": draft.name,
        "owner": query.owner,
        "modified_by": query.modified_by,
        "trashed": query.trashed,
        "text": draft.text,
        "description": draft.description,
        "catalog": draft.catalog,
        "schema": draft.schema,
        "warehouse_id": draft.warehouse_id,
        "tags": list(draft.tags),
        "parameters": [dict(parameter) for parameter in draft.parameters],
        "details": dict(draft.details),
        "updated_at": query.updated_at,
    }


def _query(row: Any) -> SavedQuery:
    return SavedQuery(
        id=row.id,
        owner=row.owner,
        modified_by=row.modified_by,
        trashed=row.trashed,
        created_at=row.created_at,
        updated_at=row.updated_at,
        draft=QueryDraft(
            name=row.name,
            text=row.text,
            description=row.description,
            catalog=row.catalog,
            schema=row.schema,
            warehouse_id=row.warehouse_id,
            tags=tuple(row.tags),
            parameters=tuple(row.parameters),
            details=row.details,
        ),
    )
