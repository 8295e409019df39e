"""Types and columns in four writings: Delta/Spark JSON, SQL text, Arrow, and the catalog's column rows.

The JSON form (`syntax.model.DeltaType`: `"long"`, `"decimal(10,2)"`, `{"type": "array", ...}`) is the hub; the others
convert from and to it. Source: Delta protocol, "Schema Serialization Format"; Spark SQL reference, "Data Types".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from millpond.catalog.domain import Column
from millpond.engine.errors import unsupported
from millpond.engine.syntax.model import ColumnSpec, DeltaType

Field = dict[str, Any]
"""One entry of a Delta schema's `fields`: name, type, nullable, metadata."""

COMMENT = "comment"
DEFAULT = "CURRENT_DEFAULT"
GENERATED = "delta.generationExpression"
SIZED_TEXT = "__CHAR_VARCHAR_TYPE_STRING"

_SQL_NAMES = {"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint"}
_ARROW: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "short": pa.int16(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}


def sql_text(kind: DeltaType) -> str:
    """The type as Spark prints it: `bigint`, `struct<a:int,b:array<string>>`."""
    if isinstance(kind, str):
        return _SQL_NAMES.get(kind, kind)
    if kind["type"] == "array":
        return f"array<{sql_text(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{sql_text(kind['keyType'])},{sql_text(kind['valueType'])}>"
    inner = ",".join(f"{_plain_or_quoted(field['name'])}:{sql_text(field['type'])}" for field in kind["fields"])
    return f"struct<{inner}>"


def _plain_or_quoted(name: str) -> str:
    plain = name.replace("_", "x").isalnum() and name.isascii()
    return name if plain else "`" + name.replace("`", "``") + "`"


def arrow_type(kind: DeltaType) -> pa.DataType:
    """The Arrow type of a column of this type, timestamps in microseconds."""
    if isinstance(kind, str):
        if kind.startswith("decimal("):
            precision, scale = kind[len("decimal(") : -1].split(",")
            return pa.decimal128(int(precision), int(scale))
        if kind not in _ARROW:
            raise unsupported(f"The type {kind} has no Arrow form here.", "DELTA_UNSUPPORTED_DATA_TYPES")
        return _ARROW[kind]
    if kind["type"] == "array":
        return pa.list_(pa.field("element", arrow_type(kind["elementType"]), kind["containsNull"]))
    if kind["type"] == "map":
        item = pa.field("value", arrow_type(kind["valueType"]), kind["valueContainsNull"])
        return pa.map_(pa.field("key", arrow_type(kind["keyType"]), False), item)
    return pa.struct([pa.field(f["name"], arrow_type(f["type"]), f["nullable"]) for f in kind["fields"]])


def from_arrow(kind: pa.DataType) -> DeltaType:
    """The Delta type that stores values of an Arrow type; unsigned integers widen to the next signed type.

    Raises: `UnsupportedError` for types that Delta has not (uint64, time, duration, union, ...).
    """
    is_type = pa.types
    for test, name in (
        (is_type.is_boolean, "boolean"),
        (is_type.is_int8, "byte"),
        (lambda t: is_type.is_int16(t) or is_type.is_uint8(t), "short"),
        (lambda t: is_type.is_int32(t) or is_type.is_uint16(t), "integer"),
        (lambda t: is_type.is_int64(t) or is_type.is_uint32(t), "long"),
        (lambda t: is_type.is_float16(t) or is_type.is_float32(t), "float"),
        (is_type.is_float64, "double"),
        (lambda t: is_type.is_string(t) or is_type.is_large_string(t) or is_type.is_string_view(t), "string"),
        (lambda t: is_type.is_binary(t) or is_type.is_large_binary(t) or is_type.is_binary_view(t), "binary"),
        (is_type.is_fixed_size_binary, "binary"),
        (is_type.is_date, "date"),
    ):
        if test(kind):
            return name
    if is_type.is_timestamp(kind):
        return "timestamp_ntz" if kind.tz is None else "timestamp"
    if is_type.is_decimal(kind) and kind.precision <= 38:
        return f"decimal({kind.precision},{kind.scale})"
    if is_type.is_dictionary(kind):
        return from_arrow(kind.value_type)
    return _nested_from_arrow(kind)


def _nested_from_arrow(kind: pa.DataType) -> DeltaType:
    is_type = pa.types
    if is_type.is_map(kind):
        return {
            "type": "map",
            "keyType": from_arrow(kind.key_type),
            "valueType": from_arrow(kind.item_type),
            "valueContainsNull": kind.item_field.nullable,
        }
    if is_type.is_list(kind) or is_type.is_large_list(kind) or is_type.is_fixed_size_list(kind):
        return {
            "type": "array",
            "elementType": from_arrow(kind.value_type),
            "containsNull": kind.value_field.nullable,
        }
    if is_type.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return {"type": "struct", "fields": [field_from_arrow(field) for field in fields]}
    raise unsupported(f"Delta cannot store the Arrow type {kind}.", "DELTA_UNSUPPORTED_DATA_TYPES")


def field_from_arrow(field: pa.Field) -> Field:
    return {"name": field.name, "type": from_arrow(field.type), "nullable": field.nullable, "metadata": {}}


def field_of(spec: ColumnSpec) -> Field:
    """The Delta schema field that a column definition in SQL asks for."""
    noted = {COMMENT: spec.comment, DEFAULT: spec.default, GENERATED: spec.generated, SIZED_TEXT: spec.varchar}
    return {
        "name": spec.path[-1],
        "type": spec.type,
        "nullable": spec.nullable,
        "metadata": {key: value for key, value in noted.items() if value is not None},
    }


def field_sql_type(field: Field) -> str:
    """The type as DESCRIBE shows it: `varchar(20)` where the user wrote that."""
    return str(field["metadata"].get(SIZED_TEXT) or sql_text(field["type"]))


def columns_of(fields: Sequence[Field], partition_columns: Sequence[str]) -> tuple[Column, ...]:
    """The catalog's rows for a Delta schema."""
    return tuple(
        Column(
            name=field["name"],
            type_text=field_sql_type(field),
            type_json=json.dumps(field["type"], ensure_ascii=False),
            nullable=field["nullable"],
            comment=field["metadata"].get(COMMENT),
            position=position,
            partition_index=_index(partition_columns, field["name"]),
        )
        for position, field in enumerate(fields)
    )


def _index(names: Sequence[str], name: str) -> int | None:
    return names.index(name) if name in names else None


def fields_of(columns: Sequence[Column]) -> list[Field]:
    """The Delta schema fields that the catalog's rows describe; the way back of `columns_of`."""
    made = []
    for column in sorted(columns, key=lambda one: one.position):
        kind: DeltaType = json.loads(column.type_json)
        metadata: Mapping[str, str] = {COMMENT: column.comment} if column.comment is not None else {}
        made.append({"name": column.name, "type": kind, "nullable": column.nullable, "metadata": dict(metadata)})
    return made
