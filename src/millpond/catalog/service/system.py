"""Tables of the catalog `system`: what the server tells about itself, as Delta tables that it alone writes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from millpond.catalog import locations
from millpond.catalog.domain import SYSTEM_CATALOG, SYSTEM_OWNER, Column, ObjectName, SchemaName, Table, TableType
from millpond.catalog.service.base import new_values
from millpond.catalog.service.guarding import Guarding
from millpond.catalog.store import containers, objects
from millpond.catalog.store.rows import columns_json, table_of
from millpond.catalog.store.schema import tables
from millpond.identity.domain import SYSTEM
from millpond.kernel.clock import utc_now


class SystemTables(Guarding):
    """Making system tables known."""

    def keep_system_table(self, name: ObjectName, columns: Sequence[Column], comment: str) -> Table:
        """The system table with a name, made or brought to these columns; several processes may do it at once."""
        assert name.catalog == SYSTEM_CATALOG
        wanted = {
            "columns": columns_json(columns),
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

    def _keep(self, name: ObjectName, wanted: dict[str, Any]) -> Table:
        with self.database.write() as connection:
            row = objects.find_row(connection, tables, name, lock=True)
            if row is not None:
                objects.update_row(connection, tables, row.id, wanted | {"updated_at": utc_now()})
            else:
                schema_id = self._system_schema(connection, name.schema_name)
                values = _own_values(name.name) | wanted | _MANAGED_DELTA
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
