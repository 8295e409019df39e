"""SHOW TABLES and SHOW COLUMNS of whole catalogs: what drivers make their metadata calls of.

The names and order of the columns are those that databricks-sql-connector and the JDBC driver read (the connector
takes a table's type from the sixth).
"""

import pyarrow as pa

from millpond.catalog.domain import SYSTEM_CATALOG, ObjectName
from millpond.catalog.information import Row, information_columns, information_rows
from millpond.catalog.names import INFORMATION_SCHEMA
from millpond.engine.commands.answer import LONG, TEXT, table
from millpond.engine.commands.context import CommandContext
from millpond.engine.commands.show import like
from millpond.engine.errors import catalog_not_found
from millpond.engine.syntax.model import ShowAcross
from millpond.kernel.errors import InvalidArgument, NotFound

_TABLES = (
    ("namespace", TEXT), ("tableName", TEXT), ("isTemporary", pa.bool_()), ("information", TEXT),
    ("catalogName", TEXT), ("tableType", TEXT), ("remarks", TEXT),
)  # fmt: skip
_COLUMNS = (
    ("col_name", TEXT), ("catalogName", TEXT), ("namespace", TEXT), ("tableName", TEXT), ("columnType", TEXT),
    ("columnSize", LONG), ("decimalDigits", LONG), ("radix", LONG), ("isNullable", TEXT), ("remarks", TEXT),
    ("ordinalPosition", LONG), ("isAutoIncrement", TEXT), ("isGenerated", TEXT),
)  # fmt: skip


def show_across(command: ShowAcross, context: CommandContext) -> pa.Table:
    """Tables or columns that the principal may see, of one catalog or all."""
    if command.what == "TABLES":
        found = _rows(command, context, "tables")
        return table(_TABLES, [_table(row) for row in found if _like(command.pattern, row["table_name"])])
    found = _rows(command, context, "columns")
    kept = [row for row in found if _like(command.table_pattern, row["table_name"])]
    return table(_COLUMNS, [_column(row) for row in kept if _like(command.pattern, row["column_name"])])


def _rows(command: ShowAcross, context: CommandContext, relation: str) -> list[dict[str, str | int | None]]:
    try:
        name = ObjectName(command.catalog or SYSTEM_CATALOG, INFORMATION_SCHEMA, relation)
        rows: list[Row] = information_rows(context.catalog, context.principal, name)
    except (NotFound, InvalidArgument) as error:
        raise catalog_not_found(command.catalog or SYSTEM_CATALOG) from error
    names = [column for column, _ in information_columns(relation)]
    shown = [dict(zip(names, row, strict=True)) for row in rows]
    only = name.catalog if command.catalog else None  # `system` tells of all catalogs
    return [
        row
        for row in shown
        if _like(command.schema_pattern, row["table_schema"]) and only in (None, row["table_catalog"])
    ]


def _like(pattern: str | None, name: str | int | None) -> bool:
    """A pattern of SHOW, or of JDBC, whose wildcard for any text is `%`."""
    return like(pattern.replace("%", "*") if pattern else None, str(name))


def _table(row: dict[str, str | int | None]) -> Row:
    kind = "VIEW" if row["table_type"] == "VIEW" else "TABLE"
    return row["table_schema"], row["table_name"], False, "", row["table_catalog"], kind, row["comment"]


def _column(row: dict[str, str | int | None]) -> Row:
    return (
        row["column_name"], row["table_catalog"], row["table_schema"], row["table_name"], row["full_data_type"],
        None, None, None, str(row["is_nullable"] == "YES").lower(), row["comment"], row["ordinal_position"],
        "NO", "NO",
    )  # fmt: skip
