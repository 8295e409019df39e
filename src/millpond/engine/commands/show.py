"""SHOW: listings narrowed by a LIKE pattern, and what one table is made of."""

import json
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import pyarrow as pa

from millpond.catalog.domain import INFORMATION_SCHEMA, Guard, Guards, Table, TableType
from millpond.catalog.names import text_literal
from millpond.engine.commands.answer import TEXT, table, texts
from millpond.engine.commands.context import (
    CommandContext,
    delta_target,
    find_table,
    missing_container,
    shown_properties,
)
from millpond.engine.commands.describe import columns_now, visible_properties
from millpond.engine.commands.extended import information
from millpond.engine.delta.alter import CLUSTERING
from millpond.engine.delta.schema import CONSTRAINT_PREFIX, find
from millpond.engine.delta.table import fields, open_table, partition_columns
from millpond.engine.errors import AnalysisError, catalog_not_found, column_not_found
from millpond.engine.syntax.model import (
    Show,
    ShowColumns,
    ShowCreateTable,
    ShowPartitions,
    ShowTableProperties,
)
from millpond.engine.types import COMMENT, DEFAULT, GENERATED, Field, arrow_type, field_sql_type
from millpond.identity.access import Act
from millpond.kernel.errors import NotFound
from millpond.kernel.paging import MAX_PAGE_SIZE, Page

T = TypeVar("T")


def like(pattern: str | None, name: str) -> bool:
    """Spark's SHOW patterns: `*` is any text, `|` separates alternatives, case does not count."""
    if pattern is None:
        return True
    escaped = [one.strip().lower().replace("[", "[[]").replace("?", "[?]") for one in pattern.split("|")]
    return any(fnmatchcase(name.lower(), one) for one in escaped)


def every(page_of: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """All items of all pages."""
    token: str | None = None
    while True:
        page = page_of(token)
        yield from page.items
        token = page.next_page_token
        if not token:
            return


# -- listings -----------------------------------------------------------------------------------------------------


def show(command: Show, context: CommandContext) -> pa.Table:
    return _LISTINGS[command.what](command, context)


def _catalogs(command: Show, context: CommandContext) -> pa.Table:
    found = every(
        lambda token: context.catalog.list_catalogs(context.principal, max_results=MAX_PAGE_SIZE, page_token=token)
    )
    return texts(["catalog"], [(one.name,) for one in found if like(command.pattern, one.name)])


def _schemas(command: Show, context: CommandContext) -> pa.Table:
    catalog = command.scope[0] if command.scope else context.session.current_catalog
    try:
        found = list(
            every(
                lambda token: context.catalog.list_schemas(
                    context.principal, catalog, max_results=MAX_PAGE_SIZE, page_token=token
                )
            )
        )
    except NotFound as error:
        raise catalog_not_found(catalog) from error
    names = sorted([*(one.name.schema for one in found), INFORMATION_SCHEMA])
    return texts(["databaseName"], [(name,) for name in names if like(command.pattern, name)])


def _in_schema(command: Show, context: CommandContext, listing: Callable[..., Page[T]]) -> list[T]:
    name = context.schema_name(command.scope)
    try:
        return list(every(lambda token: listing(context.principal, name, max_results=MAX_PAGE_SIZE, page_token=token)))
    except NotFound as error:
        raise missing_container(context, name) from error


def _temp_views(context: CommandContext, command: Show) -> list[str]:
    """Names of the session's temporary views; they have no schema and are part of every listing."""
    views: Iterable[str] = getattr(context.session, "temp_views", ())
    return sorted(name for name in views if like(command.pattern, name))


_FLAG = pa.bool_()


def _tables(command: Show, context: CommandContext) -> pa.Table:
    found: list[Table] = _in_schema(command, context, context.catalog.list_tables)
    rows: list[tuple[Any, ...]] = [
        (one.name.schema, one.name.name, False) for one in found if like(command.pattern, one.name.name)
    ]
    rows += [("", name, True) for name in _temp_views(context, command)]
    return table([("database", TEXT), ("tableName", TEXT), ("isTemporary", _FLAG)], rows)


def _extended(command: Show, context: CommandContext) -> pa.Table:
    found: list[Table] = _in_schema(command, context, context.catalog.list_tables)
    rows: list[tuple[Any, ...]] = [
        (one.name.schema, one.name.name, False, information(one))
        for one in found
        if like(command.pattern, one.name.name)
    ]
    rows += [("", name, True, f"Table: {name}\nType: VIEW\n") for name in _temp_views(context, command)]
    return table([("database", TEXT), ("tableName", TEXT), ("isTemporary", _FLAG), ("information", TEXT)], rows)


def _views(command: Show, context: CommandContext) -> pa.Table:
    found: list[Table] = _in_schema(command, context, context.catalog.list_tables)
    rows: list[tuple[Any, ...]] = [
        (one.name.schema, one.name.name, False, False)
        for one in found
        if one.table_type is TableType.VIEW and like(command.pattern, one.name.name)
    ]
    rows += [("", name, True, False) for name in _temp_views(context, command)]
    return table([("namespace", TEXT), ("viewName", TEXT), ("isTemporary", _FLAG), ("isMaterialized", _FLAG)], rows)


def _volumes(command: Show, context: CommandContext) -> pa.Table:
    found = _in_schema(command, context, context.catalog.list_volumes)
    rows = [(one.name.schema, one.name.name) for one in found if like(command.pattern, one.name.name)]
    return texts(["database", "volume_name"], rows)


def _functions(command: Show, context: CommandContext) -> pa.Table:
    """The schema's own functions; the engine's built-in ones are not listed."""
    found = _in_schema(command, context, context.catalog.list_functions)
    return texts(["function"], [(str(one.name),) for one in found if like(command.pattern, one.name.name)])


_LISTINGS: dict[str, Callable[[Show, CommandContext], pa.Table]] = {
    "CATALOGS": _catalogs,
    "SCHEMAS": _schemas,
    "TABLES": _tables,
    "TABLE EXTENDED": _extended,
    "VIEWS": _views,
    "VOLUMES": _volumes,
    "FUNCTIONS": _functions,
}


# -- one table ----------------------------------------------------------------------------------------------------


def show_columns(command: ShowColumns, context: CommandContext) -> pa.Table:
    columns, _, _ = columns_now(context, command.table)
    return texts(["col_name"], [(one["name"],) for one in columns])


def show_properties(command: ShowTableProperties, context: CommandContext) -> pa.Table:
    """The properties, and Delta's protocol versions among them, as on Spark."""
    properties = _properties(command, context)
    if command.key is None:
        return texts(["key", "value"], sorted(properties.items()))
    shown = context.object_name(command.table.name) if command.table.name else command.table.path
    missing = f"Table {shown} does not have property: {command.key}"
    return texts(["key", "value"], [(command.key, properties.get(command.key, missing))])


def _properties(command: ShowTableProperties, context: CommandContext) -> dict[str, str]:
    if command.table.name:
        found = find_table(context, command.table.name)
        if found.table_type is TableType.VIEW or found.data_source_format != "DELTA":
            return visible_properties(found)
    target = delta_target(context, command.table, Act.SEE, operation="SHOW TBLPROPERTIES")
    opened = open_table(target.storage)
    protocol = opened.protocol()
    return {
        **shown_properties(opened.metadata().configuration),
        "delta.minReaderVersion": str(protocol.min_reader_version),
        "delta.minWriterVersion": str(protocol.min_writer_version),
    }


def show_partitions(command: ShowPartitions, context: CommandContext) -> pa.Table:
    """One row for each partition, one column of its own type for each partition column, as Delta does."""
    target = delta_target(context, command.table, Act.READ, operation="SHOW PARTITIONS", tells_of_all_rows=True)
    opened = open_table(target.storage)
    names = partition_columns(opened)
    if not names:
        raise AnalysisError(
            "INVALID_PARTITION_OPERATION.PARTITION_SCHEMA_IS_EMPTY",
            f"The partition command is invalid. Table {target.shown} is not partitioned.",
            sql_state="42601",
        )
    wanted = {_partition(name, names): value for name, value in command.where.items()}
    found = [one for one in opened.partitions() if all(one.get(name) == value for name, value in wanted.items())]
    rows = sorted(([one.get(name) for name in names] for one in found), key=_null_first)
    kinds = [find(fields(opened), name) or {"type": "string"} for name in names]
    columns = [(name, arrow_type(kind["type"])) for name, kind in zip(names, kinds, strict=True)]
    arrays = [pa.array([row[at] for row in rows], TEXT).cast(kind) for at, (_, kind) in enumerate(columns)]
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


def _partition(name: str, names: list[str]) -> str:
    found = next((one for one in names if one.lower() == name.lower()), None)
    if found is None:
        raise column_not_found(name, tuple(names))
    return found


def _null_first(row: list[str | None]) -> list[tuple[bool, str]]:
    return [(value is not None, value or "") for value in row]


def show_create_table(command: ShowCreateTable, context: CommandContext) -> pa.Table:
    columns, partitions, found = columns_now(context, command.table)
    if found is not None and found.table_type is TableType.VIEW:
        return texts(["createtab_stmt"], [(_create_view(found),)])
    configuration: dict[str, str] = {}
    comment = None
    if found is None or found.data_source_format == "DELTA":
        target = delta_target(context, command.table, Act.SEE, operation="SHOW CREATE TABLE")
        metadata = open_table(target.storage).metadata()
        configuration, comment = dict(metadata.configuration), metadata.description or None
        name = found.name.quoted if found is not None else target.shown
        location = target.storage.url if found is None or found.table_type is TableType.EXTERNAL else None
    else:
        configuration, comment = visible_properties(found), found.comment or None
        name, location = found.name.quoted, found.storage_location
    using = found.data_source_format.lower() if found is not None else "delta"
    text = _create_table(context, name, columns, partitions, configuration, comment, location, using, found)
    return texts(["createtab_stmt"], [(text,)])


def _create_table(
    context: CommandContext,
    name: str,
    columns: list[Field],
    partitions: list[str],
    configuration: dict[str, str],
    comment: str | None,
    location: str | None,
    using: str,
    found: Table | None,
) -> str:
    guards = context.catalog.guards_of(found) if found is not None else Guards()
    lines = [_column_sql(one) + _mask_sql(guards.masks.get(one["name"])) for one in columns]
    for key, expression in sorted(configuration.items()):
        if key.startswith(CONSTRAINT_PREFIX):
            lines.append(f"CONSTRAINT {_quote(key.removeprefix(CONSTRAINT_PREFIX))} CHECK ({expression})")
    lines += _key_lines(found)
    text = f"CREATE TABLE {name} (\n  " + ",\n  ".join(lines) + f")\nUSING {using}\n"
    if partitions:
        text += f"PARTITIONED BY ({', '.join(map(_quote, partitions))})\n"
    clustered = json.loads(configuration.get(CLUSTERING, "[]"))
    if clustered:
        text += f"CLUSTER BY ({', '.join(map(_quote, clustered))})\n"
    if comment is not None:
        text += f"COMMENT {text_literal(comment)}\n"
    if location is not None:
        text += f"LOCATION {text_literal(location)}\n"
    if guards.row_filter is not None:
        given = ", ".join(map(_quote, guards.row_filter.columns))
        text += f"WITH ROW FILTER {guards.row_filter.function.name.quoted} ON ({given})\n"
    hidden = (CONSTRAINT_PREFIX, "millpond.", "delta.minWriterVersion", "delta.minReaderVersion")
    shown = {key: value for key, value in configuration.items() if not key.startswith(hidden)}
    return text + _properties_sql(shown)


def _column_sql(column: Field) -> str:
    metadata = column["metadata"]
    text = f"{_quote(column['name'])} {field_sql_type(column).upper() if _is_plain(column) else _nested_sql(column)}"
    text += "" if column["nullable"] else " NOT NULL"
    if GENERATED in metadata:
        text += f" GENERATED ALWAYS AS ({metadata[GENERATED]})"
    if DEFAULT in metadata:
        text += f" DEFAULT {metadata[DEFAULT]}"
    return text + (f" COMMENT {text_literal(metadata[COMMENT])}" if COMMENT in metadata else "")


def _mask_sql(mask: Guard | None) -> str:
    if mask is None:
        return ""
    using = f" USING COLUMNS ({', '.join(map(_quote, mask.columns))})" if mask.columns else ""
    return f" MASK {mask.function.name.quoted}{using}"


def _is_plain(column: Field) -> bool:
    return isinstance(column["type"], str)


def _nested_sql(column: Field) -> str:
    """Types with names inside keep their case; NOT NULL and comments of inner fields are kept too."""
    return _type_sql(column["type"])


def _type_sql(kind: Any) -> str:
    if isinstance(kind, str):
        return field_sql_type({"type": kind, "metadata": {}}).upper()
    if kind["type"] == "array":
        return f"ARRAY<{_type_sql(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"MAP<{_type_sql(kind['keyType'])}, {_type_sql(kind['valueType'])}>"
    inner = []
    for one in kind["fields"]:
        text = f"{_quote(one['name'])}: {_type_sql(one['type'])}"
        text += "" if one["nullable"] else " NOT NULL"
        comment = one["metadata"].get(COMMENT)
        inner.append(text + (f" COMMENT {text_literal(comment)}" if comment is not None else ""))
    return f"STRUCT<{', '.join(inner)}>"


def _key_lines(found: Table | None) -> list[str]:
    lines = []
    for key in found.constraints if found is not None else ():
        columns = ", ".join(_quote(one) + " TIMESERIES" * (one in key.timeseries_columns) for one in key.columns)
        if key.parent_table is None:
            lines.append(f"CONSTRAINT {_quote(key.name)} PRIMARY KEY ({columns})")
        else:
            parent = ".".join(map(_quote, key.parent_table.split(".")))
            listed = f" ({', '.join(map(_quote, key.parent_columns))})" if key.parent_columns else ""
            lines.append(f"CONSTRAINT {_quote(key.name)} FOREIGN KEY ({columns}) REFERENCES {parent}{listed}")
    return lines


def _create_view(found: Table) -> str:
    columns = []
    for one in found.columns:
        columns.append(_quote(one.name) + (f" COMMENT {text_literal(one.comment)}" if one.comment else ""))
    listed = " (\n  " + ",\n  ".join(columns) + ")" if columns else ""
    text = f"CREATE VIEW {found.name.quoted}{listed}\n"
    if found.comment:
        text += f"COMMENT {text_literal(found.comment)}\n"
    return text + _properties_sql(visible_properties(found)) + f"AS {found.view_definition}\n"


def _properties_sql(properties: dict[str, str]) -> str:
    if not properties:
        return ""
    lines = [f"{text_literal(key)} = {text_literal(value)}" for key, value in sorted(properties.items())]
    return "TBLPROPERTIES (\n  " + ",\n  ".join(lines) + ")\n"


def _quote(name: str) -> str:
    plain = name.replace("_", "x").isalnum() and name.isascii() and not name[0].isdigit()
    return name if plain and name.upper() not in _RESERVED else "`" + name.replace("`", "``") + "`"


_RESERVED = frozenset({"CHECK", "CONSTRAINT", "PRIMARY", "FOREIGN", "SELECT", "WITH"})
