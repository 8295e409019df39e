"""Row filters and column masks: which functions decide what one sees of a table.

They hold for everybody, its owner and administrators too: the function decides. Policies join them in `guards_for`
(`policing.py`).
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from millpond.catalog.domain import Function, Guard, GuardRef, GuardRefs, Guards, ObjectName, Table, TableType
from millpond.catalog.service.functions import Functions
from millpond.catalog.service.tables import refuse_system
from millpond.catalog.store import objects
from millpond.catalog.store.rows import function_of, guards_json
from millpond.catalog.store.schema import functions, tables
from millpond.identity import acts, grants
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import FailedPrecondition, InvalidArgument


class Guarding(Functions):
    """What one can do with row filters and column masks."""

    def guards_of(self, table: Table) -> Guards:
        """What decides which rows and values of a table one sees. Asks for no rights: it is for who reads the table.

        Raises FailedPrecondition when a function is gone, so that nobody sees what it kept hidden.
        """
        if not table.guards:
            return Guards()
        with self.database.read() as connection:
            found = {each: _function_with_id(connection, each, table) for each in table.guards.function_ids}
        row_filter = table.guards.row_filter
        return Guards(
            row_filter=None if row_filter is None else _guard(row_filter, found),
            masks={column: _guard(ref, found) for column, ref in table.guards.masks.items()},
        )

    def set_row_filter(
        self, principal: Principal, name: ObjectName, function: ObjectName | None, columns: Sequence[str] = ()
    ) -> Table:
        """The table, of which one sees only the rows for which the function is true; None takes the filter away.

        Raises NotFound, InvalidArgument for a view and for columns that it lacks, PermissionDenied.
        """
        return self._guarded(principal, name, None, function, columns)

    def set_mask(
        self,
        principal: Principal,
        name: ObjectName,
        column: str,
        function: ObjectName | None,
        using: Sequence[str] = (),
    ) -> Table:
        """The table, in whose column one sees what the function makes of it; None takes the mask away.

        Raises NotFound, InvalidArgument for a view and for columns that it lacks, PermissionDenied.
        """
        return self._guarded(principal, name, column, function, using)

    def _guarded(
        self,
        principal: Principal,
        name: ObjectName,
        column: str | None,
        function: ObjectName | None,
        columns: Sequence[str],
    ) -> Table:
        what = "row filter" if column is None else "mask"
        with self.database.write() as connection:
            table = self._table(connection, name, lock=True)
            require(principal, Act.MANAGE, table.securable)
            refuse_system(table)
            ref = None if function is None else self._ref(connection, principal, table, function, columns)
            values = {"guards": guards_json(_changed(table, column, ref))}
            objects.update_row(connection, tables, table.id, values)
            grants.rights_changed(connection)  # engines that reach its files must be looked at again
            verb = f"drop {what}" if function is None else f"set {what}"
            told = {"function": str(function or ""), "column": column or ""}
            acts.changed(connection, principal.name, verb, "table", str(name), **told)
            return self._table(connection, name)

    def _ref(
        self, connection: Connection, principal: Principal, table: Table, name: ObjectName, columns: Sequence[str]
    ) -> GuardRef:
        function = self._function(connection, name, lock=True)
        require(principal, Act.USE, function.securable)
        return GuardRef(function_id=function.id, columns=tuple(_exact(table, column) for column in columns))


def _changed(table: Table, column: str | None, ref: GuardRef | None) -> GuardRefs:
    if table.table_type is TableType.VIEW:
        raise InvalidArgument(f"'{table.name}' is a view; row filters and masks are for tables.")
    if column is None:
        return replace(table.guards, row_filter=ref)
    exact = _exact(table, column)
    others = {name: mask for name, mask in table.guards.masks.items() if name != exact}
    return replace(table.guards, masks=others if ref is None else others | {exact: ref})


def _exact(table: Table, column: str) -> str:
    """The column's name as the table writes it."""
    found = next((one.name for one in table.columns if one.name.lower() == column.lower()), None)
    if found is None:
        raise InvalidArgument(f"Table '{table.name}' has no column '{column}'.")
    return found


def _guard(ref: GuardRef, found: dict[str, Function]) -> Guard:
    return Guard(function=found[ref.function_id], arguments=ref.columns)


def _function_with_id(connection: Connection, function_id: str, table: Table) -> Function:
    row = objects.find_row_by_id(connection, functions, function_id)
    if row is None:
        raise FailedPrecondition(
            f"A function that decides who sees what of table '{table.name}' is gone. Its owner must set the row filter "
            "or mask again, or drop it."
        )
    return function_of(row)
