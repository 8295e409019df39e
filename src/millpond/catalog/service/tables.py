"""Tables and views."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from millpond.catalog import locations
from millpond.catalog.domain import (
    INFORMATION_SCHEMA,
    NO_GUARDS,
    SYSTEM_CATALOG,
    Column,
    GuardRefs,
    ObjectName,
    SchemaName,
    StagedTable,
    Table,
    TableConstraint,
    TableType,
)
from millpond.catalog.information import RELATIONS, information_table
from millpond.catalog.names import check_text
from millpond.catalog.service.base import clean_properties, new_values, races, touched
from millpond.catalog.service.ownership import author_owns, check_giver
from millpond.catalog.service.paths import Paths
from millpond.catalog.service.scope import require_leave
from millpond.catalog.store import dropped, housekeeping, objects
from millpond.catalog.store.rows import columns_values, constraints_json, guards_json, table_of
from millpond.catalog.store.schema import tables
from millpond.identity import acts, grants
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page

FORMATS = frozenset({"DELTA", "PARQUET", "CSV", "JSON", "AVRO", "ORC", "TEXT"})


class Tables(Paths):
    """What one can do with tables: stage, register, read, change, drop."""

    def get_table(self, principal: Principal, name: ObjectName) -> Table:
        """The table with a name. Raises NotFound."""
        if name.schema == INFORMATION_SCHEMA:
            found = information_table(self.get_catalog(principal, name.catalog), name.name)
            if found is None:
                raise NotFound(f"Table '{name}' does not exist.")
            return found
        with self.database.read() as connection:
            table = self._table(connection, name)
        require(principal, Act.SEE, table.securable)
        return table

    def get_table_by_id(self, principal: Principal, table_id: str) -> Table:
        """The table with an id. Raises NotFound."""
        with self.database.read() as connection:
            row = objects.find_row_by_id(connection, tables, table_id)
        if row is None:
            raise NotFound(f"Table '{table_id}' does not exist.")
        table = table_of(row)
        require(principal, Act.SEE, replace(table.securable, name=table_id))
        return table

    def find_tables_by_id(self, principal: Principal, ids: Collection[str]) -> dict[str, Table]:
        """Those of some tables that the principal may see, by id."""
        with self.database.read() as connection:
            found = [table_of(row) for row in objects.rows_with_ids(connection, tables, sorted(ids))]
        return {table.id: table for table in found if allows(principal, Act.SEE, table.securable)}

    def table_at(self, location: str) -> Table | None:
        """The table whose files a location is among; for the server itself, as nobody is asked."""
        found = self._container_of(locations.without_glob(location))
        return found if isinstance(found, Table) else None

    def find_table(self, principal: Principal, name: ObjectName) -> Table | None:
        """The table with a name that the principal may see, or None."""
        try:
            return self.get_table(principal, name)
        except NotFound:
            return None

    def look_up_table(self, name: ObjectName) -> Table | None:
        """The table with a name, for who then asks for rights on it; None when there is none."""
        with self.database.read() as connection:
            row = objects.find_row(connection, tables, name)
        return None if row is None else table_of(row)

    def list_tables(
        self,
        principal: Principal,
        schema: SchemaName,
        *,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Table]:
        """Tables and views of a schema that the principal may see, by name. Raises NotFound for the schema."""
        if schema.schema == INFORMATION_SCHEMA:
            catalog = self.get_catalog(principal, schema.catalog)
            return Page(items=tuple(filter(None, (information_table(catalog, one) for one in sorted(RELATIONS)))))
        return self._list_in_schema(
            principal, schema, "table", tables, table_of, max_results=max_results, page_token=page_token
        )

    def stage_table(self, principal: Principal, name: ObjectName, location: str | None = None) -> StagedTable:
        """A place for a new table: of our choice (managed), or `location` (external). Nothing is visible yet.

        Raises NotFound for the schema, AlreadyExists, PermissionDenied, InvalidArgument for the location, and what
        `on_new_tables` says.
        """
        if location is None:
            self._check_new_table(principal)
        staged_id = new_id()
        place = self._external_place(principal, location) if location is not None else None
        with self.database.write() as connection:
            schema = self._schema_for(connection, principal, name, Act.CREATE_TABLE)
            self._refuse_taken(connection, principal, name)
            managed = place is None
            if place is None:
                # below a directory of its maker's, so that the maker's engine can be let into all of them at once
                place = locations.join(self._root_for(connection, schema), "delta", principal.id, staged_id)
            elif housekeeping.location_in_use(connection, place):
                raise InvalidArgument(f"The location '{place}' overlaps that of another table or volume.")
            ours = place if managed else ""
            housekeeping.insert_staged(
                connection, staged_id=staged_id, location=ours, created_at=utc_now(), by=principal.name
            )
        return StagedTable(id=staged_id, name=name, storage_location=place, managed=managed)

    def register_table(
        self,
        principal: Principal,
        staged: StagedTable,
        columns: Sequence[Column],
        table_type: TableType,
        data_source_format: str = "DELTA",
        comment: str | None = None,
        properties: Mapping[str, str] | None = None,
        view_definition: str | None = None,
        guards: GuardRefs = NO_GUARDS,
        constraints: Sequence[TableConstraint] = (),
    ) -> Table:
        """Make a staged table visible, all at once.

        Raises AlreadyExists when the name was taken meanwhile, FailedPrecondition when the staging has expired.
        """
        _check_kind(staged, table_type, data_source_format, view_definition)
        is_view = table_type is TableType.VIEW
        values = new_values(principal, staged.name.name, comment) | {
            "id": staged.id,
            "table_type": TableType(table_type).value,
            "data_source_format": "" if is_view else data_source_format.upper(),
            "storage_location": "" if is_view else staged.storage_location,
            **columns_values(check_columns(columns)),
            "properties": clean_properties(properties),
            "view_definition": None if view_definition is None else check_text(view_definition, "The view"),
            "constraints": constraints_json(_checked_constraints(staged.name, columns, constraints)),
            "guards": guards_json(guards),
        }
        taken, gone = f"Table '{staged.name}' already exists.", f"Schema '{staged.name.schema_name}' does not exist."
        with races(taken, gone), self.database.write() as connection:
            schema = self._schema_for(connection, principal, staged.name, Act.CREATE_TABLE)
            if not housekeeping.take_staged(connection, staged.id):
                raise FailedPrecondition(f"The staging of table '{staged.name}' has expired; create it again.")
            if not (is_view or staged.managed) and housekeeping.location_in_use(connection, staged.storage_location):
                raise AlreadyExists(f"The location '{staged.storage_location}' was taken by another table or volume.")
            objects.insert_row(connection, tables, values | {"schema_id": schema.id})
            acts.changed(connection, principal.name, "create", "table", str(staged.name))
            return _looked_at(connection, self._table(connection, staged.name))

    def record_columns(
        self,
        principal: Principal,
        table: Table,
        columns: Sequence[Column],
        properties: Mapping[str, str] | None = None,
    ) -> Table:
        """The table with the columns that its Delta log has now, and its properties where given."""
        values = columns_values(check_columns(columns))
        if properties is not None:
            values["properties"] = clean_properties(properties)
        with self.database.write() as connection:
            current = self._table_by_id(connection, table)
            require(principal, Act.ALTER, current.securable)
            objects.update_row(connection, tables, table.id, touched(principal, values))
            acts.changed(connection, principal.name, "record columns", "table", str(current.name))
            return _looked_at(connection, self._table_by_id(connection, table))

    def refresh_table(
        self, principal: Principal, table: Table, read_columns: Callable[[Table], Sequence[Column]]
    ) -> Table:
        """The table with the columns that `read_columns` finds in its log, which outside writers may have changed.

        Reading it is enough of a right: the rows here only follow the truth. The log is read outside any transaction.
        """
        require(principal, Act.SEE, table.securable)
        columns = check_columns(read_columns(table))
        if columns == table.columns:
            return table
        with self.database.write() as connection:
            values = columns_values(columns) | {"updated_at": utc_now()}
            objects.update_row(connection, tables, table.id, values)
            return _looked_at(connection, self._table_by_id(connection, table))

    def replace_view(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        view_definition: str,
        columns: Sequence[Column],
        comment: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Table:
        """The view with a new definition (CREATE OR REPLACE VIEW), whose author owns it now.

        Raises NotFound, PermissionDenied, InvalidArgument for a table.
        """
        values: dict[str, Any] = {
            "view_definition": check_text(view_definition, "The view"),
            **columns_values(check_columns(columns)),
            "comment": comment,
            "properties": clean_properties(properties),
        }

        def change(connection: Connection, table: Table) -> Mapping[str, Any]:
            if table.table_type is not TableType.VIEW:
                raise InvalidArgument(f"'{table.name}' is a table, not a view.")
            return {**values, **author_owns(connection, principal, table)}

        return self._change_table(principal, name, change)

    def update_table(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        owner: str | None = None,
        comment: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Table:
        """The table after a change of what is not None. Raises NotFound, InvalidArgument, PermissionDenied."""
        values = self._changes(comment=comment, owner=owner, properties=properties)
        act = Act.ALTER if owner is None else Act.MANAGE

        def change(_connection: Connection, table: Table) -> Mapping[str, Any]:
            if table.table_type is not TableType.VIEW:
                return values
            check_giver(principal, table, owner)
            return values if properties is None else values | {"properties": _kept_meaning(table, values["properties"])}

        return self._change_table(principal, name, change, act=act)

    def rename_table(self, principal: Principal, name: ObjectName, new_name: ObjectName) -> Table:
        """The table under another name, also in another schema of its catalog; its files stay where they are.

        Raises NotFound, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        if new_name.catalog != name.catalog:
            raise InvalidArgument(
                f"Table '{name}' cannot move to catalog '{new_name.catalog}'; rename within a catalog."
            )
        taken, gone = f"Table '{new_name}' already exists.", f"Schema '{new_name.schema_name}' does not exist."
        with races(taken, gone), self.database.write() as connection:
            table = self._table(connection, name, lock=True)
            require(principal, Act.MANAGE, table.securable)
            refuse_system(table)
            schema_id = table.schema_id
            if new_name.schema_name != name.schema_name:
                require_leave(connection, principal, table)
                schema_id = self._schema_for(connection, principal, new_name, Act.CREATE_TABLE).id
            values = touched(principal, {"name": new_name.name, "schema_id": schema_id})
            objects.update_row(connection, tables, table.id, values)
            if schema_id != table.schema_id:
                grants.rights_changed(connection)  # it inherits others
            acts.changed(connection, principal.name, "rename", "table", str(name), new_name=str(new_name))
            return self._table(connection, new_name)

    def drop_table(self, principal: Principal, name: ObjectName) -> Table:
        """Remove a table or view and return what it was; a managed table's files go later, an external one's stay.

        A table can be brought back meanwhile (`undropping.py`). Raises NotFound, PermissionDenied.
        """
        with self.database.write() as connection:
            table = self._table(connection, name, lock=True)
            require(principal, Act.MANAGE, table.securable)
            refuse_system(table)
            if table.table_type is TableType.VIEW:
                self._delete(connection, tables, table.id)
            else:
                dropped.move_out(connection, table.id, now=utc_now(), by=principal.name)
            if table.table_type is TableType.MANAGED:
                self._purge_later(connection, table.storage_location, f"table {name}", purge_id=table.id)
            acts.changed(connection, principal.name, "drop", "table", str(name))
        return table

    def abandon_table(self, principal: Principal, staged: StagedTable) -> None:
        """Give up a staged table: its files go, its name was never taken. Harmless when repeated or registered."""
        with self.database.write() as connection:
            if housekeeping.take_staged(connection, staged.id) and staged.managed:
                self._purge_now(connection, staged.storage_location, f"abandoned table {staged.name}")

    def add_constraint(self, principal: Principal, name: ObjectName, constraint: TableConstraint) -> Table:
        """The table with one more declared key. Raises NotFound, AlreadyExists, InvalidArgument."""

        def change(_connection: Connection, table: Table) -> dict[str, Any]:
            kept = _checked_constraints(table.name, table.columns, (*table.constraints, constraint))
            return {"constraints": constraints_json(kept)}

        return self._change_table(principal, name, change)

    def drop_constraint(self, principal: Principal, name: ObjectName, constraint: str) -> Table:
        """The table without a declared key. Raises NotFound."""

        def change(_connection: Connection, table: Table) -> dict[str, Any]:
            kept = [item for item in table.constraints if item.name != constraint.lower()]
            if len(kept) == len(table.constraints):
                raise NotFound(f"Constraint '{constraint}' of table '{name}' does not exist.")
            return {"constraints": constraints_json(kept)}

        return self._change_table(principal, name, change)

    def _change_table(
        self,
        principal: Principal,
        name: ObjectName,
        change: Callable[[Connection, Table], Mapping[str, Any]],
        *,
        act: Act = Act.MANAGE,
    ) -> Table:
        with self.database.write() as connection:
            table = self._table(connection, name, lock=True)
            require(principal, act, table.securable)
            refuse_system(table)
            values = change(connection, table)
            objects.update_row(connection, tables, table.id, touched(principal, values))
            self._updated(connection, principal, "table", name, values)
            return self._table(connection, name)

    def _table(self, connection: Connection, name: ObjectName, *, lock: bool = False) -> Table:
        row = objects.find_row(connection, tables, name, lock=lock)
        if row is None:
            raise NotFound(f"Table '{name}' does not exist.")
        return table_of(row)

    def _table_by_id(self, connection: Connection, table: Table) -> Table:
        row = objects.find_row_by_id(connection, tables, table.id)
        if row is None:
            raise Conflict(f"Table '{table.name}' was dropped meanwhile.")
        return table_of(row)

    def _refuse_taken(self, connection: Connection, principal: Principal, name: ObjectName) -> None:
        if objects.find_row(connection, tables, name) is not None:
            raise AlreadyExists(f"Table '{name}' already exists.")


def _looked_at(connection: Connection, table: Table) -> Table:
    """A table with columns that a policy may ask for: engines that reach its files must be looked at again."""
    if table.policed:
        grants.rights_changed(connection)
    return table


def _kept_meaning(view: Table, properties: Mapping[str, str]) -> dict[str, str]:
    """Properties of a view without a change of those that say what the names in its text mean."""
    given = {key: value for key, value in properties.items() if not key.startswith("view.")}
    return given | {key: value for key, value in view.properties.items() if key.startswith("view.")}


def refuse_system(table: Table) -> None:
    """Raises InvalidArgument for a table of the catalog `system`."""
    if table.name.catalog == SYSTEM_CATALOG:
        raise InvalidArgument(f"Table '{table.name}' is kept by the server and cannot be changed.")


def check_columns(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Columns with positions in order. Raises InvalidArgument for names that repeat or cannot be stored."""
    seen: set[str] = set()
    for column in columns:
        if not column.name or column.name.lower() in seen:
            raise InvalidArgument(f"Column '{column.name}' is there twice (names are compared without regard to case).")
        for text in (column.name, column.type_text, column.type_json, column.comment or ""):
            check_text(text, f"Column '{column.name[:80]!r}'")
        seen.add(column.name.lower())
    return tuple(replace(column, position=position) for position, column in enumerate(columns))


def _check_kind(staged: StagedTable, table_type: TableType, data_source_format: str, view: str | None) -> None:
    if (table_type is TableType.VIEW) != (view is not None):
        raise InvalidArgument(f"'{staged.name}': a view needs a definition, and a table has none.")
    if table_type is TableType.VIEW:
        return
    if data_source_format.upper() not in FORMATS:
        raise InvalidArgument(f"Format '{data_source_format}' is not known; one of {', '.join(sorted(FORMATS))}.")
    if (table_type is TableType.MANAGED) != staged.managed:
        raise InvalidArgument(f"Table '{staged.name}' was staged {'without' if staged.managed else 'with'} a location.")
    if staged.managed and data_source_format.upper() != "DELTA":
        raise InvalidArgument(f"Managed table '{staged.name}' must be DELTA, not {data_source_format}.")


def _checked_constraints(
    name: ObjectName, columns: Sequence[Column], constraints: Sequence[TableConstraint]
) -> Sequence[TableConstraint]:
    """The constraints of a table. Raises AlreadyExists for a second of its name or primary key, InvalidArgument."""
    for number, constraint in enumerate(constraints):
        earlier = constraints[:number]
        if any(item.name == constraint.name for item in earlier):
            raise AlreadyExists(f"Constraint '{constraint.name}' of table '{name}' already exists.")
        if constraint.parent_table is None and any(item.parent_table is None for item in earlier):
            raise AlreadyExists(f"Table '{name}' already has a primary key.")
        _check_key_columns(name, columns, constraint)
    return constraints


def _check_key_columns(name: ObjectName, columns: Sequence[Column], constraint: TableConstraint) -> None:
    """Source: Databricks, "CONSTRAINT clause": one column of a primary key may be TIMESERIES."""
    known = {column.name.lower() for column in columns}
    for column in constraint.columns:
        if column.lower() not in known:
            raise InvalidArgument(f"Column '{column}' of constraint '{constraint.name}' is not in '{name}'.")
    times = constraint.timeseries_columns
    if len(times) > 1:
        raise InvalidArgument(f"Constraint '{constraint.name}' of '{name}' has {len(times)} timeseries columns; one.")
    if not {time.lower() for time in times} <= {column.lower() for column in constraint.columns}:
        raise InvalidArgument(f"Timeseries column '{times[0]}' of '{name}' is not in constraint '{constraint.name}'.")
