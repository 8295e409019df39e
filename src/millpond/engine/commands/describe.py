"""DESCRIBE: history, detail, tables, columns, catalogs, schemas, volumes."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from millpond.catalog.domain import Guards, Table, TableType
from millpond.engine.commands.answer import (
    LONG,
    TEXT,
    TEXT_MAP,
    TEXTS,
    TIMESTAMP,
    moment,
    pairs,
    table,
    texts,
)
from millpond.engine.commands.context import (
    CommandContext,
    delta_target,
    find_table,
    reconcile_columns,
    shown_properties,
)
from millpond.engine.delta import describe as delta
from millpond.engine.delta.schema import find
from millpond.engine.delta.table import fields, open_table, partition_columns
from millpond.engine.errors import (
    AnalysisError,
    catalog_not_found,
    column_not_found,
    quoted,
    schema_not_found,
)
from millpond.engine.syntax.model import (
    DescribeDetail,
    DescribeHistory,
    DescribeObject,
    DescribeTable,
    TableRef,
)
from millpond.engine.types import COMMENT, DEFAULT, Field, field_sql_type, fields_of
from millpond.identity.access import Act, require
from millpond.kernel.errors import NotFound

# Source: Delta Lake documentation, "History schema"
_JOB = pa.struct([(name, TEXT) for name in ("jobId", "jobName", "jobRunId", "runId", "jobOwnerId", "triggerType")])
HISTORY = (
    ("version", LONG),
    ("timestamp", TIMESTAMP),
    ("userId", TEXT),
    ("userName", TEXT),
    ("operation", TEXT),
    ("operationParameters", TEXT_MAP),
    ("job", _JOB),
    ("notebook", pa.struct([("notebookId", TEXT)])),
    ("clusterId", TEXT),
    ("readVersion", LONG),
    ("isolationLevel", TEXT),
    ("isBlindAppend", pa.bool_()),
    ("operationMetrics", TEXT_MAP),
    ("userMetadata", TEXT),
    ("engineInfo", TEXT),
)


def history(command: DescribeHistory, context: CommandContext) -> pa.Table:
    """Each commit, newest first."""
    target = delta_target(context, command.table, Act.READ, operation="DESCRIBE HISTORY")
    rows = []
    for entry in delta.history(target.storage, command.limit):
        shown = {
            **entry,
            "timestamp": moment(entry["timestamp"]),
            "operationParameters": pairs(entry["operationParameters"]),
            "operationMetrics": pairs(entry["operationMetrics"]),
        }
        rows.append([shown.get(name) for name, _ in HISTORY])
    return table(HISTORY, rows)


# Source: Delta Lake documentation, "Detail schema"
DETAIL = (
    ("format", TEXT),
    ("id", TEXT),
    ("name", TEXT),
    ("description", TEXT),
    ("location", TEXT),
    ("createdAt", TIMESTAMP),
    ("lastModified", TIMESTAMP),
    ("partitionColumns", TEXTS),
    ("clusteringColumns", TEXTS),
    ("numFiles", LONG),
    ("sizeInBytes", LONG),
    ("properties", TEXT_MAP),
    ("minReaderVersion", pa.int32()),
    ("minWriterVersion", pa.int32()),
    ("tableFeatures", TEXTS),
)


def detail(command: DescribeDetail, context: CommandContext) -> pa.Table:
    target = delta_target(context, command.table, Act.READ, operation="DESCRIBE DETAIL")
    found = delta.detail(target.storage)
    row = (
        "delta",
        found.id,
        str(target.table.name) if target.table is not None else found.name,
        found.description,
        found.location,
        moment(found.created_ms),
        moment(found.modified_ms),
        found.partition_columns,
        found.clustering_columns,
        found.files,
        found.size_bytes,
        pairs(shown_properties(found.properties)),
        found.reader_version,
        found.writer_version,
        found.features,
    )
    return table(DETAIL, [row])


# -- tables -------------------------------------------------------------------------------------------------------

_COLUMNS = ("col_name", "data_type", "comment")
_Row = tuple[str, str, str | None]


def describe_table(command: DescribeTable, context: CommandContext) -> pa.Table:
    columns, partitions, found = columns_now(context, command.table)
    if command.as_json:
        return texts(["json_metadata"], [(json.dumps(_as_json(columns, partitions, found), ensure_ascii=False),)])
    if command.column is not None:
        return _describe_column(command, columns)
    rows: list[_Row] = [(one["name"], field_sql_type(one), one["metadata"].get(COMMENT)) for one in columns]
    if partitions:
        rows += [("# Partition Information", "", ""), ("# col_name", "data_type", "comment")]
        rows += [row for name in partitions for row in rows[: len(columns)] if row[0] == name]
    if command.extended and found is not None:
        rows += [("", "", ""), ("# Detailed Table Information", "", ""), *details(found)]
        rows += described_guards(context.catalog.guards_of(found))
    return texts(_COLUMNS, rows)


def columns_now(context: CommandContext, ref: TableRef) -> tuple[list[Field], list[str], Table | None]:
    """The columns and partition columns, from the Delta log where there is one; the catalog follows it."""
    if ref.path is not None:
        target = delta_target(context, ref, Act.READ, operation="DESCRIBE TABLE")
        opened = open_table(target.storage)
        return fields(opened), partition_columns(opened), None
    found = find_table(context, ref.name)
    require(context.principal, Act.SEE, found.securable)
    if found.table_type is TableType.VIEW or found.data_source_format != "DELTA":
        columns = fields_of(found.columns)
        partitioned = sorted(
            (one.partition_index, one.name) for one in found.columns if one.partition_index is not None
        )
        return columns, [name for _, name in partitioned], found
    found = reconcile_columns(context, found)
    opened = open_table(context.storage(found.storage_location))
    return fields(opened), partition_columns(opened), found


def details(found: Table) -> list[_Row]:
    """What the catalog knows of a table besides its columns, by Spark's names."""
    rows: list[tuple[str, str | None]] = [
        ("Catalog", found.name.catalog),
        ("Database", found.name.schema),
        ("Table", found.name.name),
        ("Created Time", java_date(found.created_at)),
        ("Last Access", "UNKNOWN"),
        ("Created By", found.created_by),
        ("Type", found.table_type.value),
        ("Comment", found.comment or None),
        ("View Text", found.view_definition),
        ("Location", found.storage_location or None),
        ("Provider", found.data_source_format.lower() or None),
        ("Owner", found.owner),
        ("Is_managed_location", "true" if found.table_type is TableType.MANAGED else None),
        ("Table Properties", _property_list(found)),
    ]
    return [(key, value, "") for key, value in rows if value is not None]


def described_guards(guards: Guards) -> list[_Row]:
    """Row filter and masks, as DESCRIBE EXTENDED of Databricks shows them."""
    rows: list[_Row] = []
    if guards.row_filter is not None:
        rows += [("", "", ""), ("# Row Filter", "", ""), ("Function", str(guards.row_filter.function.name), "")]
        rows.append(("Column Names", ", ".join(guards.row_filter.columns), ""))
    if guards.masks:
        rows += [("", "", ""), ("# Column Masks", "", "")]
        rows += [(name, str(mask.function.name), ", ".join(mask.columns)) for name, mask in guards.masks.items()]
    return rows


def _property_list(found: Table) -> str | None:
    listed = ",".join(f"{key}={value}" for key, value in sorted(visible_properties(found).items()))
    return f"[{listed}]" if listed else None


def visible_properties(found: Table) -> dict[str, str]:
    """A table's properties without those in which we note other things."""
    return {k: v for k, v in found.properties.items() if not k.startswith(("view.", "option.", "millpond."))}


def java_date(when: datetime) -> str:
    """As Spark prints moments in DESCRIBE EXTENDED: `Sat Nov 21 01:02:03 UTC 2026`."""
    return when.astimezone(UTC).strftime("%a %b %d %H:%M:%S UTC %Y")


def _describe_column(command: DescribeTable, columns: Sequence[Field]) -> pa.Table:
    path = command.column or ()
    if len(path) > 1:
        raise AnalysisError(
            "UNSUPPORTED_FEATURE.DESC_TABLE_COLUMN",
            f"DESC TABLE COLUMN does not support nested column: {quoted(path)}.",
            sql_state="0A000",
        )
    column = find(columns, path[0])
    if column is None:
        raise column_not_found(path[0], tuple(one["name"] for one in columns))
    rows: list[tuple[str, str | None]] = [
        ("col_name", column["name"]),
        ("data_type", field_sql_type(column)),
        ("comment", column["metadata"].get(COMMENT)),
    ]
    if command.extended:
        statistics = ("min", "max", "num_nulls", "distinct_count", "avg_col_len", "max_col_len", "histogram")
        rows += [(name, None) for name in statistics]
    return texts(["info_name", "info_value"], [(name, "NULL" if value is None else value) for name, value in rows])


def described_as_json(columns: Sequence[Field]) -> str:
    """What `DESCRIBE TABLE ... AS JSON` tells of what is no table of the catalog."""
    return json.dumps(_as_json(columns, (), None), ensure_ascii=False)


def _as_json(columns: Sequence[Field], partitions: Sequence[str], found: Table | None) -> dict[str, Any]:
    """Source: Spark SQL reference, "DESCRIBE TABLE ... AS JSON"."""
    made: dict[str, Any] = {}
    if found is not None:
        made |= {
            "table_name": found.name.name,
            "catalog_name": found.name.catalog,
            "namespace": [found.name.schema],
            "schema_name": found.name.schema,
        }
    made["columns"] = [_column_json(one) for one in columns]
    if partitions:
        made["partition_columns"] = list(partitions)
    if found is None:
        return made
    made |= {
        "type": found.table_type.value,
        "provider": found.data_source_format.lower(),
        "location": found.storage_location,
        "owner": found.owner,
        "comment": found.comment or None,
        "view_text": found.view_definition,
        "created_by": found.created_by,
        "created_time": found.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "table_properties": visible_properties(found) or None,
    }
    return {key: value for key, value in made.items() if value not in (None, "")}


def _column_json(column: Field) -> dict[str, Any]:
    made = {
        "name": column["name"],
        "type": _type_json(column["type"]),
        "nullable": column["nullable"],
        "comment": column["metadata"].get(COMMENT),
        "default": column["metadata"].get(DEFAULT),
    }
    return {key: value for key, value in made.items() if value is not None}


_JSON_NAMES = {"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint", "timestamp": "timestamp_ltz"}


def _type_json(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        if kind.startswith("decimal("):
            precision, scale = kind[len("decimal(") : -1].split(",")
            return {"name": "decimal", "precision": int(precision), "scale": int(scale)}
        return {"name": _JSON_NAMES.get(kind, kind)}
    if kind["type"] == "array":
        return {
            "name": "array",
            "element_type": _type_json(kind["elementType"]),
            "element_nullable": kind["containsNull"],
        }
    if kind["type"] == "map":
        return {
            "name": "map",
            "key_type": _type_json(kind["keyType"]),
            "value_type": _type_json(kind["valueType"]),
            "value_nullable": kind["valueContainsNull"],
        }
    return {"name": "struct", "fields": [_column_json(one) for one in kind["fields"]]}


# -- catalogs, schemas, volumes -----------------------------------------------------------------------------------


def describe_object(command: DescribeObject, context: CommandContext) -> pa.Table:
    if command.kind == "CATALOG":
        return _catalog(command, context)
    if command.kind == "SCHEMA":
        return _schema(command, context)
    return _volume(command, context)


def _catalog(command: DescribeObject, context: CommandContext) -> pa.Table:
    try:
        found = context.catalog.get_catalog(context.principal, command.name[0])
    except NotFound as error:
        raise catalog_not_found(command.name[0]) from error
    rows = [("Catalog Name", found.name), ("Comment", found.comment or ""), ("Owner", found.owner)]
    if command.extended:
        rows += [
            ("Created By", found.created_by),
            ("Created At", java_date(found.created_at)),
            ("Updated By", found.updated_by),
            ("Updated At", java_date(found.updated_at)),
            ("Storage Root", found.storage_root or ""),
        ]
    return texts(["info_name", "info_value"], rows)


def _schema(command: DescribeObject, context: CommandContext) -> pa.Table:
    name = context.schema_name(command.name)
    try:
        found = context.catalog.get_schema(context.principal, name)
    except NotFound as error:
        raise schema_not_found((name.catalog, name.schema)) from error
    rows = [
        ("Catalog Name", found.name.catalog),
        ("Namespace Name", found.name.schema),
        ("Comment", found.comment or ""),
        ("Location", found.storage_root or ""),
        ("Owner", found.owner),
    ]
    if command.extended:
        listed = ", ".join(f"({key},{value})" for key, value in sorted(found.properties.items()))
        rows.append(("Properties", f"({listed})" if listed else ""))
    return texts(["database_description_item", "database_description_value"], rows)


_VOLUME = ("name", "catalog", "database", "owner", "storage_location", "volume_type", "comment")


def _volume(command: DescribeObject, context: CommandContext) -> pa.Table:
    name = context.object_name(command.name)
    try:
        found = context.catalog.get_volume(context.principal, name)
    except NotFound as error:
        raise _no_volume(command) from error
    row = (
        found.name.name,
        found.name.catalog,
        found.name.schema,
        found.owner,
        found.storage_location,
        found.volume_type.value,
        found.comment,
    )
    return texts(_VOLUME, [row])


def _no_volume(command: DescribeObject) -> AnalysisError:
    return AnalysisError("VOLUME_NOT_FOUND", f"The volume {quoted(command.name)} cannot be found.", sql_state="42704")
