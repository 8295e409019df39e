"""DROP TABLE, DROP VIEW, UNDROP TABLE and SHOW TABLES DROPPED."""

import pyarrow as pa

from millpond.catalog.domain import TableType
from millpond.engine.commands.answer import TEXT, TIMESTAMP, nothing, table
from millpond.engine.commands.context import CommandContext, find_table, missing_container, wrong_type
from millpond.engine.errors import AnalysisError, table_exists, table_not_found
from millpond.engine.syntax.model import Drop, ShowDropped, UndropTable
from millpond.kernel.errors import AlreadyExists, NotFound


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
    """By name the one that was dropped last."""
    shown = command.name or (command.table_id or "",)
    try:
        if command.table_id is not None:
            context.catalog.undrop_table_with_id(context.principal, command.table_id)
        else:
            context.catalog.undrop_table(context.principal, context.object_name(command.name))
    except NotFound as error:
        raise table_not_found(shown) from error
    except AlreadyExists as error:
        raise table_exists(shown) from error
    return nothing()


# Source: Databricks SQL reference, "SHOW TABLES DROPPED"
_DROPPED = (
    ("catalogName", TEXT), ("schemaName", TEXT), ("tableName", TEXT), ("tableId", TEXT), ("tableType", TEXT),
    ("deletedAt", TIMESTAMP), ("createdAt", TIMESTAMP), ("updatedAt", TIMESTAMP), ("createdBy", TEXT),
    ("owner", TEXT), ("comment", TEXT),
)  # fmt: skip


def show_dropped(command: ShowDropped, context: CommandContext) -> pa.Table:
    """Those that the user may bring back, the last dropped first."""
    schema = context.schema_name(command.scope)
    try:
        found = context.catalog.list_dropped(context.principal, schema)
    except NotFound as error:
        raise missing_container(context, schema) from error
    rows = [
        (one.table.name.catalog, one.table.name.schema, one.table.name.name, one.table.id, one.table.table_type.value,
         one.dropped_at, one.table.created_at, one.table.updated_at, one.table.created_by, one.table.owner,
         one.table.comment)
        for one in found[: command.limit]
    ]  # fmt: skip
    return table(_DROPPED, rows)
