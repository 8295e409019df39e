"""Tables of the catalog `system`: what the server tells about itself, as Delta tables that it alone writes."""

import contextlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from millpond.catalog import locations
from millpond.catalog.domain import (
    INFORMATION_SCHEMA,
    SYSTEM_CATALOG,
    SYSTEM_OWNER,
    Column,
    ObjectName,
    SchemaName,
    Table,
    TableType,
)
from millpond.catalog.information import Row, information_rows
from millpond.catalog.service.base import new_values
from millpond.catalog.service.guarding import Guarding
from millpond.catalog.store import containers, objects
from millpond.catalog.store.rows import columns_values, table_of
from millpond.catalog.store.schema import tables
from millpond.identity.domain import SYSTEM, USERS, Principal
from millpond.identity.grants import Change
from millpond.identity.privileges import Privilege
from millpond.kernel.clock import utc_now


class Computed(Protocol):
    """What a room tells about a relation whose rows are found when it is read."""

    @property
    def comment(self) -> str:
        """What it tells."""

    @property
    def columns(self) -> Sequence[Column]:
        """Its columns."""

    def rows(self, principal: Principal) -> list[Row]:
        """The rows that the principal may see. Blocks."""


class SystemTables(Guarding):
    """Making system tables known."""

    @cached_property
    def _computed(self) -> dict[ObjectName, Computed]:
        return {}

    def keep_system_table(self, name: ObjectName, columns: Sequence[Column], comment: str) -> Table:
        """The system table with a name, made or brought to these columns; several processes may do it at once."""
        assert name.catalog == SYSTEM_CATALOG
        wanted = {
            **columns_values(columns),
            "comment": comment,
            "storage_location": locations.join(self.storage_root, SYSTEM_CATALOG, name.schema, name.name),
        }
        with self.database.read() as connection:
            row = objects.find_row(connection, tables, name)
        if row is not None and _agrees(table_of(row), columns, wanted):
            return table_of(row)
        try:
            return self._keep(name, wanted)
        except IntegrityError:  # another process was faster
            return self._keep(name, wanted)

    def keep_computed(self, name: ObjectName, computed: Computed) -> Table:
        """A relation below `system` whose rows are found when it is read, for who reads; all may, from the start."""
        assert name.catalog == SYSTEM_CATALOG
        wanted = {**columns_values(computed.columns), "comment": computed.comment, "storage_location": ""}
        with self.database.read() as connection:
            row = objects.find_row(connection, tables, name)
        if row is None or not _agrees(table_of(row), computed.columns, wanted):
            with contextlib.suppress(IntegrityError):  # another process was faster
                self._keep(name, wanted | _VIEW)
        if row is None:
            self._open_to_all(name)
        self._computed[name] = computed
        return self.get_table(SYSTEM, name)

    def managed_tables(self) -> list[Table]:
        """All managed tables, whosever they are, for who looks how large they are."""
        with self.database.read() as connection:
            found = [table_of(row) for row in objects.all_rows(connection, tables)]
        return [each for each in found if each.table_type is TableType.MANAGED and each.storage_location]

    def is_computed(self, name: ObjectName) -> bool:
        """Whether the rows of a relation are found when it is read."""
        return name.schema == INFORMATION_SCHEMA or name in self._computed

    def computed_rows(self, principal: Principal, name: ObjectName) -> tuple[Sequence[Column], list[Row]]:
        """Columns and rows of such a relation, as far as the principal may see them."""
        if name in self._computed:
            computed = self._computed[name]
            return computed.columns, computed.rows(principal)
        return self.get_table(principal, name).columns, information_rows(self, principal, name)

    def _open_to_all(self, name: ObjectName) -> None:
        with self.database.read() as connection:
            table = self._table(connection, name)
            schema = self._schema(connection, name.schema_name)
        for securable, privilege in ((schema.securable, Privilege.USE_SCHEMA), (table.securable, Privilege.SELECT)):
            find = lambda _connection, securable=securable: (securable,)  # noqa: E731
            self.grants.change(SYSTEM, find, [Change(grantee=USERS, add=frozenset({privilege}))])

    def _keep(self, name: ObjectName, wanted: dict[str, Any]) -> Table:
        with self.database.write() as connection:
            row = objects.find_row(connection, tables, name, lock=True)
            if row is not None:
                objects.update_row(connection, tables, row.id, wanted | {"updated_at": utc_now()})
            else:
                schema_id = self._system_schema(connection, name.schema_name)
                values = _own_values(name.name) | _MANAGED_DELTA | wanted
                objects.insert_row(connection, tables, values | {"schema_id": schema_id})
            return self._table(connection, name)

    def _system_schema(self, connection: Connection, name: SchemaName) -> str:
        schema = containers.find_schema(connection, name)
        if schema is not None:
            return schema.id
        catalog = self._catalog(connection, name.catalog)
        values = _own_values(name.schema) | {"catalog_id": catalog.id, "properties": {}, "storage_root": None}
        containers.insert_schema(connection, values)
        return str(values["id"])


_MANAGED_DELTA: dict[str, Any] = {
    "table_type": TableType.MANAGED.value,
    "data_source_format": "DELTA",
    "properties": {},
    "view_definition": None,
    "constraints": [],
}


_VIEW: dict[str, Any] = {"table_type": TableType.VIEW.value, "data_source_format": ""}


def _own_values(name: str) -> dict[str, Any]:
    made = new_values(SYSTEM, name, None)
    return made | {"owner": SYSTEM_OWNER, "created_by": SYSTEM_OWNER, "updated_by": SYSTEM_OWNER}


def _agrees(table: Table, columns: Sequence[Column], wanted: dict[str, Any]) -> bool:
    told = [(column.name, column.type_text, column.comment) for column in table.columns]
    return (
        told == [(column.name, column.type_text, column.comment) for column in columns]
        and table.storage_location == wanted["storage_location"]
        and table.comment == wanted["comment"]
    )
