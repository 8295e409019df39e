"""Finding objects: by a part of their names, and by when they changed."""

from collections.abc import Iterable
from dataclasses import dataclass

from millpond.catalog.domain import Table
from millpond.catalog.service.system import SystemTables
from millpond.catalog.store import discovery
from millpond.catalog.store.containers import catalog_of, schema_of
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.rows import function_of, model_of, table_of, volume_of
from millpond.catalog.store.schema import functions, models, tables, volumes
from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import Principal
from millpond.identity.privileges import CONTAINERS

MAX_FOUND = 200
_KINDS = (("table", tables, table_of), ("volume", volumes, volume_of), ("function", functions, function_of),
          ("model", models, model_of))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object by its name."""

    kind: str
    """catalog, schema, table, volume, function or model."""
    full_name: str


class Discovery(SystemTables):
    """What one can find."""

    def search(self, principal: Principal, text: str, *, limit: int = 20) -> tuple[Found, ...]:
        """Up to `limit` objects of each kind that the principal may see and whose full name holds the text."""
        text, limit = text.strip().lower(), min(limit, MAX_FOUND)
        if not text or "\x00" in text:
            return ()
        with self.database.read() as connection:
            reach = {kind: Reach(principal=principal, kind=kind) for kind in CONTAINERS}
            catalogs = [catalog_of(row) for row in discovery.catalogs_named(connection, text, reach["catalog"], limit)]
            schemas = [schema_of(row) for row in discovery.schemas_named(connection, text, reach["schema"], limit)]
            inner = [
                convert(row)
                for kind, table, convert in _KINDS
                for row in discovery.objects_named(connection, table, text, reach[kind], limit)
            ]
        return _visible(principal, (item.securable for item in [*catalogs, *schemas, *inner]))

    def recent_tables(self, principal: Principal, *, limit: int = 20) -> tuple[Table, ...]:
        """Tables and views that the principal may see, last changed first."""
        reach = Reach(principal=principal, kind="table")
        with self.database.read() as connection:
            rows = discovery.objects_by_change(connection, tables, reach, min(limit, MAX_FOUND))
        found = [table_of(row) for row in rows]
        return tuple(table for table in found if allows(principal, Act.SEE, table.securable))


def _visible(principal: Principal, securables: Iterable[Securable]) -> tuple[Found, ...]:
    return tuple(
        Found(kind=securable.kind, full_name=securable.name)
        for securable in securables
        if allows(principal, Act.SEE, securable)
    )
