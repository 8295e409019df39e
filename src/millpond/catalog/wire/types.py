"""Types of columns as the Unity Catalog API spells them, beside Spark's own spelling that the catalog keeps.

Source: Unity Catalog OpenAPI, `ColumnTypeName`; in `type_json` the Databricks service gives the JSON of Spark's whole
field (`{"name", "type", "nullable", "metadata"}`), which is what Polars parses; other clients send the type alone.
"""

import json
import re
from typing import Any

from millpond.kernel.errors import InvalidArgument

_NAME_OF_SPARK = {
    "boolean": "BOOLEAN", "byte": "BYTE", "tinyint": "BYTE", "short": "SHORT", "smallint": "SHORT",
    "integer": "INT", "int": "INT", "long": "LONG", "bigint": "LONG", "float": "FLOAT", "real": "FLOAT",
    "double": "DOUBLE", "date": "DATE", "timestamp": "TIMESTAMP", "timestamp_ltz": "TIMESTAMP",
    "timestamp_ntz": "TIMESTAMP_NTZ", "string": "STRING", "binary": "BINARY", "decimal": "DECIMAL",
    "interval": "INTERVAL", "array": "ARRAY", "struct": "STRUCT", "map": "MAP", "char": "CHAR", "varchar": "STRING",
    "void": "NULL", "null": "NULL", "udt": "USER_DEFINED_TYPE", "variant": "VARIANT",
}  # fmt: skip
_SPARK_OF_NAME = {
    "BOOLEAN": "boolean", "BYTE": "byte", "SHORT": "short", "INT": "integer", "LONG": "long", "FLOAT": "float",
    "DOUBLE": "double", "DATE": "date", "TIMESTAMP": "timestamp", "TIMESTAMP_NTZ": "timestamp_ntz",
    "STRING": "string", "BINARY": "binary", "NULL": "void", "CHAR": "string", "VARIANT": "variant",
}  # fmt: skip
TYPE_NAMES = frozenset(_NAME_OF_SPARK.values()) | {"TABLE_TYPE", "GEOGRAPHY", "GEOMETRY"}


def type_name(type_text: str) -> str:
    """The API's name of a type, as in DECIMAL for `decimal(10,2)`."""
    match = re.match(r"[a-z_]+", type_text.strip().lower())
    return _NAME_OF_SPARK.get(match[0] if match else "", "USER_DEFINED_TYPE")


def precision_and_scale(type_text: str) -> tuple[int, int] | None:
    """Digits of a decimal; None for every other type."""
    match = re.fullmatch(r"decimal\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?", type_text.strip().lower())
    return (int(match[1] or 10), int(match[2] or 0)) if match else None


def field_json(name: str, type_json: str, *, nullable: bool, comment: str | None) -> str:
    """Spark's JSON of a whole field."""
    metadata = {} if comment is None else {"comment": comment}
    field = {"name": name, "type": json.loads(type_json), "nullable": nullable, "metadata": metadata}
    return json.dumps(field, ensure_ascii=False, separators=(",", ":"))


def spark_type_json(name: str, type_json: str | None, type_text: str | None, kind: str | None) -> str:
    """Spark's JSON of a type, from whichever of the API's spellings a client gave.

    Raises InvalidArgument when they tell no type.
    """
    if type_json:
        return json.dumps(_type_of_json(name, type_json), ensure_ascii=False, separators=(",", ":"))
    text = (type_text or "").strip().lower()
    if precision_and_scale(text) is not None:
        precision, scale = precision_and_scale(text) or (10, 0)
        return json.dumps(f"decimal({precision},{scale})")
    plain = _SPARK_OF_NAME.get(kind or type_name(text))
    if plain is None or (not text and not kind):
        raise InvalidArgument(f"Column '{name}': give type_json, or a type_text of a simple type.")
    return json.dumps(plain)


def _type_of_json(name: str, type_json: str) -> Any:
    try:
        value = json.loads(type_json)
    except ValueError:
        value = type_json.strip()  # some clients send the bare word
    if isinstance(value, dict) and "name" in value and "type" in value:
        value = value["type"]
    is_type = (isinstance(value, str) and value) or (isinstance(value, dict) and "type" in value)
    if not is_type:
        raise InvalidArgument(f"Column '{name}': type_json is not a type of Spark: {type_json[:200]}")
    return value
