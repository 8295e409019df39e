"""DROP TABLE, DROP VIEW and UNDROP."""

import pyarrow as pa

from millpond.catalog.domain import TableType
from millpond.engine.commands.answer import nothing
from millpond.engine.commands.context import CommandContext, find_table, wrong_type
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.syntax.model import Drop, UndropTable


def drop(command: Drop, context: CommandContext) -> pa.Table:
    """A managed table's files go later; temporary views are the gateway's."""
    try:
        found = find_table(context, command.name)
    except AnalysisError as error:
        if command.if_exists and error.error_class == "TABLE_OR_VIEW_NOT_FOUND":
            return nothing()
        raise
    is_view = found.table_type is TableType.VIEW
    if is_view != (command.kind == "VIEW"):
        raise wrong_type(f"DROP {command.kind}", found, command.kind, "VIEW" if is_view else "TABLE")
    context.catalog.drop_table(context.principal, found.name)
    return nothing()


def undrop(command: UndropTable, context: CommandContext) -> pa.Table:
    raise unsupported(
        f"UNDROP TABLE {'.'.join(command.name)}: a dropped table cannot be brought back by SQL. Its files stay for "
        "seven days; an administrator can create an external table over a copy of them."
    )
