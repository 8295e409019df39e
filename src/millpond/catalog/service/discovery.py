"""Finding objects: by what is said about them, and by when they changed."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.domain import Table
from millpond.catalog.search import MAX_FOUND, Found, Wanted, matching_columns
from millpond.catalog.service.system import SystemTables
from millpond.catalog.store import discovery
from millpond.catalog.store import tags as tag_store
from millpond.catalog.store.containers import catalog_of, schema_of
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.rows import function_of, model_of, table_of, volume_of
from millpond.catalog.store.schema import catalogs, functions, models, schemas, tables, volumes
from millpond.catalog.tags import TableTags
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal

_KINDS = (
    ("catalog", catalogs, catalog_of), ("schema", schemas, schema_of), ("table", tables, table_of),
    ("volume", volumes, volume_of), ("function", functions, function_of), ("model", models, model_of),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TaggedTable:
    """A table with the tags of it and its columns."""

    table: Table
    tags: TableTags


class Discovery(SystemTables):
    """What one can find."""

    def search(self, principal: Principal, wanted: Wanted, *, limit: int = 20) -> tuple[Found, ...]:
        """Up to `limit` objects that the principal may see and that fit, the best first."""
        limit = min(limit, MAX_FOUND + 1)
        if wanted.is_empty:
            return ()
        with self.database.read() as connection:
            found = [
                each
                for kind, table, convert in _KINDS
                if wanted.takes(kind)
                for each in _found(connection, principal, wanted, (kind, table, convert), limit)
            ]
            best = sorted(found, key=lambda each: each.rank)[:limit]
            return _with_tags(connection, best)

    def keyed_tables(
        self, principal: Principal, wanted: Wanted, *, after: str | None = None, limit: int = 20
    ) -> tuple[TaggedTable, ...]:
        """Delta tables with a primary key that the principal may see and that fit, by full name; those of all when
        nothing is wanted. `after` is the full name behind which to begin."""
        reach = Reach(principal=principal, kind="table")
        with self.database.read() as connection:
            rows = discovery.keyed_tables(connection, wanted, reach, after, min(limit, MAX_FOUND + 1))
            found = [table for table in map(table_of, rows) if allows(principal, Act.SEE, table.securable)]
            tags = tag_store.of_tables(connection, found)
        return tuple(TaggedTable(table=table, tags=tags[table.id]) for table in found)

    def recent_tables(self, principal: Principal, *, limit: int = 20) -> tuple[Table, ...]:
        """Tables and views that the principal may see, last changed first; not the server's own."""
        reach = Reach(principal=principal, kind="table")
        with self.database.read() as connection:
            rows = discovery.objects_by_change(connection, tables, reach, min(limit, MAX_FOUND))
        found = [table_of(row) for row in rows]
        return tuple(table for table in found if allows(principal, Act.SEE, table.securable))


def _found(
    connection: Connection, principal: Principal, wanted: Wanted, among: tuple[str, Any, Any], limit: int
) -> Iterable[Found]:
    kind, table, convert = among
    for row in discovery.best(connection, table, wanted, Reach(principal=principal, kind=kind), limit):
        item = convert(row)
        if allows(principal, Act.SEE, item.securable):
            yield Found(
                kind=kind,
                full_name=str(item.name),
                id=item.id,
                owner=item.owner,
                comment=item.comment or "",
                updated_at=item.updated_at,
                columns=_columns(wanted, item) if kind == "table" else (),
                certification=row.certification or "",
                score=row.score,
            )


def _columns(wanted: Wanted, table: Table) -> tuple[str, ...]:
    return matching_columns(wanted.words, [(column.name, column.comment or "") for column in table.columns])


def _with_tags(connection: Connection, found: list[Found]) -> tuple[Found, ...]:
    own: dict[str, dict[str, str]] = {}
    for object_id, column, key, value in tag_store.all_on(connection, [each.id for each in found]):
        if not column:
            own.setdefault(object_id, {})[key] = value
    return tuple(replace(each, tags=own.get(each.id, {})) for each in found)
