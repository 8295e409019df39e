"""Bringing dropped tables back, for as long as their files are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millpond.catalog.domain import ObjectName, SchemaName, Table, TableType
from millpond.catalog.service.base import races
from millpond.catalog.service.tables import Tables
from millpond.catalog.store import dropped, housekeeping
from millpond.catalog.store.rows import table_of
from millpond.identity import acts, grants
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import AlreadyExists, NotFound

MAX_LISTED = 10_000


@dataclass(frozen=True, kw_only=True)
class DroppedTable:
    """A table as it was, and when it went."""

    table: Table
    dropped_at: datetime


class Undropping(Tables):
    """What one can do with tables that were dropped. They are for who may manage them, and for nobody else there."""

    def list_dropped(
        self, principal: Principal, schema: SchemaName, *, limit: int = MAX_LISTED
    ) -> tuple[DroppedTable, ...]:
        """Dropped tables of a schema that the principal may bring back, the last dropped first. Raises NotFound."""
        with self.database.read() as connection:
            require(principal, Act.SEE, self._schema(connection, schema).securable)
            rows = dropped.rows_in(connection, schema, self._dropped_since(), MAX_LISTED)
        return tuple(_manageable(principal, rows))[:limit]

    def undrop_table(self, principal: Principal, name: ObjectName) -> Table:
        """The table of a name that was dropped last, with its rows, grants and tags as they were.

        Raises NotFound, PermissionDenied (who may not create a table there), AlreadyExists for its name or location.
        """
        with self.database.write() as connection:
            rows = dropped.rows_named(connection, name, self._dropped_since())
        return self._undrop(principal, rows, f"There is no dropped table '{name}' that you may bring back.")

    def undrop_table_with_id(self, principal: Principal, table_id: str) -> Table:
        """The same for the dropped table with an id."""
        with self.database.write() as connection:
            rows = () if "\0" in table_id else dropped.rows_with_id(connection, table_id, self._dropped_since())
        return self._undrop(principal, rows, f"There is no dropped table with id '{table_id[:80]}' that you may have.")

    def _undrop(self, principal: Principal, rows: Sequence[Any], missing: str) -> Table:
        found = next(iter(_manageable(principal, rows)), None)
        if found is None:
            raise NotFound(missing)
        table = found.table
        with races(f"Table '{table.name}' already exists.", ""), self.database.write() as connection:
            if not dropped.rows_with_id(connection, table.id, self._dropped_since()):
                raise NotFound(missing)  # somebody else was faster
            self._schema_for(connection, principal, table.name, Act.CREATE_TABLE)
            self._refuse_taken(connection, principal, table.name)
            if table.table_type is TableType.EXTERNAL and housekeeping.location_in_use(
                connection, table.storage_location
            ):
                raise AlreadyExists(f"The location '{table.storage_location}' was taken by another table or volume.")
            dropped.move_back(connection, table.id)
            housekeeping.delete_purge(connection, table.id)
            grants.rights_changed(connection)
            acts.changed(connection, principal.name, "undrop", "table", str(table.name))
            return self._table(connection, table.name)

    def forget_dropped(self) -> int:
        """Give up what was dropped too long ago; how many. Their files are purged by themselves."""
        with self.database.write() as connection:
            gone = dropped.forget_until(connection, self._dropped_since())
            self._forget(connection, gone)
        return len(gone)

    def _dropped_since(self) -> datetime:
        return utc_now() - self._purge_after


def _manageable(principal: Principal, rows: Sequence[Any]) -> Sequence[DroppedTable]:
    found = (DroppedTable(table=table_of(row), dropped_at=row.dropped_at) for row in rows)
    return [each for each in found if allows(principal, Act.MANAGE, each.table.securable)]
