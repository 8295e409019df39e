"""Row filters and column masks: SET, DROP and CREATE TABLE. Types are checked here, rights in the catalog."""

from collections.abc import Sequence

import pyarrow as pa

from millpond.catalog.domain import NO_GUARDS, Function, GuardRef, GuardRefs, Table
from millpond.catalog.service import CatalogService
from millpond.engine.commands.answer import nothing
from millpond.engine.commands.context import CommandContext, refuse_view
from millpond.engine.errors import AnalysisError, column_not_found, unsupported
from millpond.engine.sql_functions import SqlFunction, routine_not_found, sql_function, wrong_number_of_arguments
from millpond.engine.syntax.model import CreateTable, GuardSpec, Name, SetMask, SetRowFilter
from millpond.engine.types import Field, fields_of, sql_text
from millpond.identity.access import Act, require
from millpond.kernel.errors import NotFound

_NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")


def change(context: CommandContext, table: Table, action: SetRowFilter | SetMask) -> pa.Table:
    """ALTER TABLE ... SET or DROP ROW FILTER, ALTER COLUMN ... SET or DROP MASK."""
    refuse_view(table, "SET ROW FILTER" if isinstance(action, SetRowFilter) else "SET MASK")
    require(context.principal, Act.MANAGE, table.securable)
    fields, guard = fields_of(table.columns), action.guard
    function = None if guard is None else usable_function(context, guard.function)
    if isinstance(action, SetRowFilter):
        if guard is not None and function is not None:
            _check_filter(function, fields, guard)
        name = None if function is None else function.name
        context.catalog.set_row_filter(context.principal, table.name, name, guard.columns if guard else ())
        return nothing()
    column = _column(action.path, fields)
    if guard is not None and function is not None:
        _check_mask(function, fields, column, guard)
    name = None if function is None else function.name
    context.catalog.set_mask(context.principal, table.name, column["name"], name, guard.columns if guard else ())
    return nothing()


def of_new_table(context: CommandContext, command: CreateTable, fields: Sequence[Field]) -> GuardRefs:
    """What CREATE TABLE says of a row filter and masks, checked."""
    masks: dict[str, GuardRef] = {}
    for spec in command.columns:
        if spec.mask is not None:
            function = usable_function(context, spec.mask.function)
            column = _column(spec.path, fields)
            _check_mask(function, fields, column, spec.mask)
            masks[column["name"]] = _ref(function, fields, spec.mask)
    if command.row_filter is None:
        return GuardRefs(masks=masks) if masks else NO_GUARDS
    function = usable_function(context, command.row_filter.function)
    _check_filter(function, fields, command.row_filter)
    return GuardRefs(row_filter=_ref(function, fields, command.row_filter), masks=masks)


def refuse_guarded_columns(table: Table | None, gone: Sequence[str], what: str) -> None:
    """Refuse a change that takes columns away which a row filter or mask needs."""
    for column in gone if table is not None else ():
        if table is not None and column.lower() in table.guards.columns:
            raise AnalysisError(
                "ROW_LEVEL_SECURITY_INCOMPATIBLE_SCHEMA_CHANGE"
                if table.guards.row_filter and column in table.guards.row_filter.columns
                else "COLUMN_MASKS_INCOMPATIBLE_SCHEMA_CHANGE",
                f"Cannot {what} column {column}: the row filter or a column mask of table {table.name} needs it. Drop "
                "that first.",
                sql_state="0A000",
            )


def refuse_tagged_columns(catalog: CatalogService, table: Table | None, gone: Sequence[str], what: str) -> None:
    """Refuse a change that takes a column with a governed tag away, by which a policy may cover the table."""
    governed = catalog.governed_columns(table) if table is not None and table.policed and gone else {}
    for column in gone:
        if table is not None and column.lower() in governed:
            raise AnalysisError(
                "UC_ABAC_INCOMPATIBLE_SCHEMA_CHANGE",
                f"Cannot {what} column {column} of table {table.name}: a policy may cover the table by its tag "
                f"{governed[column.lower()]}. Whoever may ASSIGN that must remove it first.",
                sql_state="0A000",
            )


def usable_function(context: CommandContext, name: Name) -> Function:
    """The function of a name, which whoever asks may call. Raises UNRESOLVED_ROUTINE."""
    try:
        function = context.catalog.get_function(context.principal, context.object_name(name))
        require(context.principal, Act.USE, function.securable)
    except NotFound as error:
        raise routine_not_found(name) from error
    return function


def _ref(function: Function, fields: Sequence[Field], guard: GuardSpec) -> GuardRef:
    columns = tuple(str(_column((name,), fields)["name"]) for name in guard.columns)
    return GuardRef(function_id=function.id, columns=columns)


def _check_filter(function: Function, fields: Sequence[Field], guard: GuardSpec) -> None:
    if len({column.lower() for column in guard.columns}) < len(guard.columns):
        raise _duplicate("ROW_LEVEL_SECURITY_DUPLICATE_COLUMN_NAME", guard)
    found = sql_function(function)
    _check_arguments(found, [_column((name,), fields) for name in guard.columns])
    if found.returns != "boolean":
        raise AnalysisError(
            "DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN",
            f"A row filter must return BOOLEAN, and {function.name} returns {str(found.returns).upper()}.",
            sql_state="42K09",
        )


def _check_mask(function: Function, fields: Sequence[Field], column: Field, guard: GuardSpec) -> None:
    given = [name.lower() for name in guard.columns]
    if column["name"].lower() in given:
        raise AnalysisError(
            "COLUMN_MASKS_USING_COLUMN_NAME_SAME_AS_TARGET_COLUMN",
            f"The column {column['name']} is the first argument of its mask already; leave it out of USING COLUMNS.",
            sql_state="42734",
        )
    if len(set(given)) < len(given):
        raise _duplicate("COLUMN_MASKS_DUPLICATE_USING_COLUMN_NAME", guard)
    found = sql_function(function)
    _check_arguments(found, [column, *(_column((name,), fields) for name in guard.columns)])
    if not _fits(str(found.returns), sql_text(column["type"])):
        raise AnalysisError(
            "DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION",
            f"The mask {function.name} returns {str(found.returns).upper()}, which is no value of column "
            f"{column['name']} of type {sql_text(column['type']).upper()}.",
            sql_state="42K09",
        )


def _check_arguments(function: SqlFunction, given: Sequence[Field]) -> None:
    if function.columns:
        raise unsupported(f"{function.name} returns a table; a row filter or mask is a function of one value.")
    needed = [each for each in function.parameters if each.default is None]
    if not len(needed) <= len(given) <= len(function.parameters):
        raise wrong_number_of_arguments(function, len(given))
    for column, parameter in zip(given, function.parameters, strict=False):
        kind = sql_text(column["type"])
        if not _fits(kind, parameter.type):
            raise AnalysisError(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                f"The parameter {parameter.name} of {function.name} takes {parameter.type.upper()}, and column "
                f"{column['name']} is {kind.upper()}.",
                sql_state="42K09",
            )


def _fits(kind: str, wanted: str) -> bool:
    """Whether values of a type may stand for those of another: the same, as text, or one number for another."""
    return kind == wanted or wanted == "string" or (kind.startswith(_NUMBERS) and wanted.startswith(_NUMBERS))


def _column(path: Name, fields: Sequence[Field]) -> Field:
    if len(path) != 1:
        raise unsupported("A mask of a field in a column; mask it.", "COLUMN_MASKS_MULTI_PART_TARGET_COLUMN_NAME")
    found = next((one for one in fields if one["name"].lower() == path[0].lower()), None)
    if found is None:
        raise column_not_found(path[0], tuple(one["name"] for one in fields))
    return found


def _duplicate(error_class: str, guard: GuardSpec) -> AnalysisError:
    return AnalysisError(
        error_class, f"A column stands twice among those given to {'.'.join(guard.function)}.", sql_state="42734"
    )
