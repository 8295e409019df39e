"""ALTER TABLE, ALTER VIEW, COMMENT ON TABLE and COLUMN: the Delta log first, then the catalog's rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from millpond.catalog.domain import ObjectName, Table, TableConstraint, TableType
from millpond.engine.commands import guards
from millpond.engine.commands.answer import nothing
from millpond.engine.commands.context import CommandContext, Target, delta_target, find_table, record, wrong_type
from millpond.engine.delta import alter, schema
from millpond.engine.errors import AnalysisError, SparkError, column_not_found, table_exists, unsupported
from millpond.engine.syntax.model import (
    AddColumns,
    AddConstraint,
    AlterColumn,
    AlterTable,
    ClusterBy,
    CommentOn,
    Constraint,
    DropColumns,
    DropConstraint,
    Name,
    RenameColumn,
    RenameTable,
    SetMask,
    SetOwner,
    SetProperties,
    SetRowFilter,
    TableRef,
    UnsetProperties,
)
from millpond.identity.access import Act, require
from millpond.kernel.errors import AlreadyExists

_INTERNAL_KEYS = ("view.", "option.", "millpond.")


def alter_table(command: AlterTable, context: CommandContext) -> pa.Table:
    """Also ALTER VIEW, whose changes are the catalog's alone."""
    action = command.action
    if command.table.path is None:
        table = find_table(context, command.table.name)
        is_view = table.table_type is TableType.VIEW
        if command.view and not is_view:
            raise wrong_type("ALTER VIEW", table, "VIEW", "TABLE")
        if isinstance(action, RenameTable):
            return _rename(context, table, action.new_name)
        if isinstance(action, SetOwner):
            context.catalog.update_table(context.principal, table.name, owner=action.owner)
            return nothing()
        if isinstance(action, SetRowFilter | SetMask):
            return guards.change(context, table, action)
        if is_view or table.data_source_format != "DELTA":
            return _alter_catalog_only(context, table, action)
    target = delta_target(context, command.table, Act.ALTER, operation="ALTER TABLE", tells_of_all_rows=True)
    if target.table is not None and isinstance(action, AddConstraint | DropConstraint):
        # a key or check binds who writes and other tables, so it is for who manages the table
        require(context.principal, Act.MANAGE, target.table.securable)
    handler: Callable[[CommandContext, Target, Any], None] | None = _ACTIONS.get(type(action))
    if handler is None:
        raise unsupported("This ALTER TABLE needs a table of the catalog, not a path.")
    handler(context, target, action)
    record(context, target)
    return nothing()


def _rename(context: CommandContext, table: Table, new_name: Name) -> pa.Table:
    """A name of one part stays in the table's own schema."""
    own = (table.name.catalog, table.name.schema)
    target = ObjectName(*(*own[: 3 - len(new_name)], *new_name))
    try:
        context.catalog.rename_table(context.principal, table.name, target)
    except AlreadyExists as error:
        raise table_exists(new_name) from error
    return nothing()


def _alter_catalog_only(context: CommandContext, table: Table, action: object) -> pa.Table:
    current = dict(table.properties)
    if isinstance(action, SetProperties):
        _refuse_internal(action.properties)
        current |= action.properties
    elif isinstance(action, UnsetProperties):
        _refuse_internal(action.keys)
        current = {key: value for key, value in current.items() if key not in action.keys}
    else:
        kind = "view" if table.table_type is TableType.VIEW else f"{table.data_source_format} table"
        raise unsupported(f"This change of a {kind} ({table.name}); it is for Delta tables.")
    comment = current.pop("comment", None)
    context.catalog.update_table(context.principal, table.name, properties=current, comment=comment)
    return nothing()


def _refuse_internal(keys: Any) -> None:
    for key in keys:
        if key.startswith(_INTERNAL_KEYS):
            raise AnalysisError(
                "UNSUPPORTED_FEATURE.SET_TABLE_PROPERTY", f"The property {key} is reserved.", sql_state="0A000"
            )


# -- actions on Delta tables --------------------------------------------------------------------------------------


def _add_columns(context: CommandContext, target: Target, action: AddColumns) -> None:
    alter.change(target.storage, context.author, lambda state: schema.plan_add_columns(state, action))


def _rename_column(context: CommandContext, target: Target, action: RenameColumn) -> None:
    _refuse_key_column(target, action.path, "rename")
    guards.refuse_guarded_columns(target.table, action.path[:1], "rename")
    if target.table is not None and len(action.path) == 1:
        context.catalog.keep_column_tags(context.principal, target.table, action.path[0], action.new_name)
    alter.change(target.storage, context.author, lambda state: schema.plan_rename_column(state, action))


def _drop_columns(context: CommandContext, target: Target, action: DropColumns) -> None:
    for path in action.paths:
        _refuse_key_column(target, path, "drop")
        guards.refuse_guarded_columns(target.table, path[:1], "drop")
    alter.change(target.storage, context.author, lambda state: schema.plan_drop_columns(state, action))


def _alter_column(context: CommandContext, target: Target, action: AlterColumn) -> None:
    if action.type is not None:
        guards.refuse_guarded_columns(target.table, action.path[:1], "change the type of")
    alter.change(target.storage, context.author, lambda state: schema.plan_alter_column(state, action))


def _set_properties(context: CommandContext, target: Target, action: SetProperties) -> None:
    _refuse_internal(action.properties)
    alter.set_properties(target.storage, context.author, action.properties)
    if target.table is not None and "comment" in action.properties:
        comment = action.properties["comment"]
        context.catalog.update_table(context.principal, target.table.name, comment=comment)


def _unset_properties(context: CommandContext, target: Target, action: UnsetProperties) -> None:
    _refuse_internal(action.keys)
    alter.unset_properties(target.storage, context.author, action.keys, if_exists=action.if_exists)
    if target.table is not None and "comment" in action.keys:
        context.catalog.update_table(context.principal, target.table.name, comment="")


def _add_constraint(context: CommandContext, target: Target, action: AddConstraint) -> None:
    constraint = action.constraint
    if constraint.kind != "CHECK":
        if target.table is None:
            raise unsupported("PRIMARY and FOREIGN KEY need a table of the catalog, not a path.")
        declare_key(context, target.table, constraint)
        return
    if constraint.name is None:
        raise AnalysisError(
            "DELTA_CHECK_CONSTRAINT_NAME_MISSING",
            "Name the constraint: ALTER TABLE ... ADD CONSTRAINT name CHECK (...).",
            sql_state="42601",
        )
    alter.add_check(target.storage, context.author, constraint.name, constraint.expression)


def declare_key(context: CommandContext, table: Table, constraint: Constraint) -> None:
    """Record a PRIMARY or FOREIGN KEY, which informs and is not enforced, as on Databricks."""
    context.catalog.add_constraint(context.principal, table.name, key_of(context, table.name, constraint))


def key_of(context: CommandContext, table: ObjectName, constraint: Constraint) -> TableConstraint:
    """A PRIMARY or FOREIGN KEY of a table as the catalog keeps it."""
    kind = "pk" if constraint.kind == "PRIMARY KEY" else "fk"
    parent = None
    if constraint.parent:
        named = context.object_name(constraint.parent)
        parent = str(named if named == table else find_table(context, constraint.parent).name)
    return TableConstraint(
        name=(constraint.name or f"{table.name}_{kind}").lower(),
        columns=constraint.columns,
        parent_table=parent,
        parent_columns=constraint.parent_columns,
        timeseries_columns=constraint.timeseries_columns,
        rely=constraint.rely,
    )


def _drop_constraint(context: CommandContext, target: Target, action: DropConstraint) -> None:
    if target.table is not None:
        keys = {constraint.name for constraint in target.table.constraints}
        if action.name.lower() in keys:
            context.catalog.drop_constraint(context.principal, target.table.name, action.name)
            return
    alter.drop_check(target.storage, context.author, action.name, if_exists=action.if_exists)


def _cluster_by(context: CommandContext, target: Target, action: ClusterBy) -> None:
    alter.cluster_by(target.storage, context.author, action.columns)


def _refuse_key_column(target: Target, path: Name, verb: str) -> None:
    constraints = target.table.constraints if target.table is not None else ()
    for constraint in constraints:
        if len(path) == 1 and path[0].lower() in {column.lower() for column in constraint.columns}:
            raise _key_column(path[0], constraint.name, verb)


def _key_column(column: str, constraint: str, verb: str) -> SparkError:
    return AnalysisError(
        "DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE",
        f"Cannot {verb} column {column} because the key {constraint} is declared on it. Drop the constraint first.",
        sql_state="42K09",
    )


_ACTIONS: dict[type, Callable[[CommandContext, Target, Any], None]] = {
    AddColumns: _add_columns,
    RenameColumn: _rename_column,
    DropColumns: _drop_columns,
    AlterColumn: _alter_column,
    SetProperties: _set_properties,
    UnsetProperties: _unset_properties,
    AddConstraint: _add_constraint,
    DropConstraint: _drop_constraint,
    ClusterBy: _cluster_by,
}


# -- comments -----------------------------------------------------------------------------------------------------


def comment_on_table(command: CommentOn, context: CommandContext) -> pa.Table:
    """COMMENT ON TABLE or VIEW: in the Delta log's description where there is one, and in the catalog."""
    table = find_table(context, command.name)
    require(context.principal, Act.ALTER, table.securable)
    if table.data_source_format == "DELTA":
        alter.set_description(context.storage(table.storage_location), context.author, command.comment)
    context.catalog.update_table(context.principal, table.name, comment=command.comment or "")
    return nothing()


def comment_on_column(command: CommentOn, context: CommandContext) -> pa.Table:
    """COMMENT ON COLUMN: in the Delta log where there is one, else in the catalog."""
    table = find_table(context, command.name[:-1])
    if table.data_source_format != "DELTA":
        _comment_in_catalog(context, table, command)
        return nothing()
    target = delta_target(context, TableRef(name=command.name[:-1]), Act.ALTER, operation="COMMENT ON COLUMN")
    path = command.name[-1:]
    alter.change(target.storage, context.author, lambda state: schema.plan_column_comment(state, path, command.comment))
    record(context, target)
    return nothing()


def _comment_in_catalog(context: CommandContext, table: Table, command: CommentOn) -> None:
    named = command.name[-1].lower()
    if named not in {column.name.lower() for column in table.columns}:
        raise column_not_found(command.name[-1], tuple(column.name for column in table.columns))
    columns = [
        replace(column, comment=command.comment) if column.name.lower() == named else column for column in table.columns
    ]
    context.catalog.record_columns(context.principal, table, columns)
