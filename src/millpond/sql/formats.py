"""Results in the forms that clients read: what a column is, values as text, CSV.

Source: Statement Execution API (ColumnInfo, `format`), and what databricks-sql-connector reads back
(`databricks/sql/backend/sea/utils/conversion.py`).
"""

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millpond.sql.domain import ResultColumn

Row = list[str | None]

_is = pa.types
_FLOAT_DIGITS = 15
"""As many decimal digits a JSON number carries everywhere; a longer decimal inside a nested value becomes text."""
_SIMPLE: tuple[tuple[Callable[[pa.DataType], bool], str, str], ...] = (
    (_is.is_boolean, "BOOLEAN", "BOOLEAN"),
    (_is.is_int8, "BYTE", "TINYINT"),
    (_is.is_int16, "SHORT", "SMALLINT"),
    (_is.is_int32, "INT", "INT"),
    (_is.is_int64, "LONG", "BIGINT"),
    (_is.is_float32, "FLOAT", "FLOAT"),
    (_is.is_float64, "DOUBLE", "DOUBLE"),
    (_is.is_date, "DATE", "DATE"),
    (_is.is_null, "NULL", "VOID"),
    (lambda kind: _is.is_string(kind) or _is.is_large_string(kind) or _is.is_string_view(kind), "STRING", "STRING"),
    (lambda kind: _is.is_binary(kind) or _is.is_large_binary(kind) or _is.is_binary_view(kind), "BINARY", "BINARY"),
    (lambda kind: _is.is_duration(kind), "INTERVAL", "INTERVAL DAY TO SECOND"),
    (lambda kind: _is.is_interval(kind), "INTERVAL", "INTERVAL YEAR TO MONTH"),
)


def column_of(field: pa.Field) -> ResultColumn:
    """A column as the manifest describes it."""
    kind = field.type
    if _is.is_decimal(kind):
        text = f"DECIMAL({kind.precision},{kind.scale})"
        return ResultColumn(
            name=field.name, type_text=text, type_name="DECIMAL", precision=kind.precision, scale=kind.scale
        )
    name, text = _type_of(kind)
    interval = text.removeprefix("INTERVAL ") if name == "INTERVAL" else None
    return ResultColumn(name=field.name, type_text=text, type_name=name, interval=interval)


def _type_of(kind: pa.DataType) -> tuple[str, str]:
    for test, name, text in _SIMPLE:
        if test(kind):
            return name, text
    if _is.is_timestamp(kind):
        # the API knows no other name for it: a client must be able to parse the value by this
        return ("TIMESTAMP", "TIMESTAMP") if kind.tz else ("TIMESTAMP", "TIMESTAMP_NTZ")
    if _is.is_decimal(kind):
        return "DECIMAL", f"DECIMAL({kind.precision},{kind.scale})"
    if _is.is_map(kind):
        return "MAP", f"MAP<{_type_of(kind.key_type)[1]}, {_type_of(kind.item_type)[1]}>"
    if _is.is_struct(kind):
        fields = (kind.field(at) for at in range(kind.num_fields))
        inner = ", ".join(f"{field.name}: {_type_of(field.type)[1]}" for field in fields)
        return "STRUCT", f"STRUCT<{inner}>"
    if _is.is_list(kind) or _is.is_large_list(kind) or _is.is_fixed_size_list(kind):
        return "ARRAY", f"ARRAY<{_type_of(kind.value_type)[1]}>"
    if _is.is_dictionary(kind):
        return _type_of(kind.value_type)
    return "USER_DEFINED_TYPE", str(kind).upper()


def text_rows(table: pa.Table) -> Iterator[Row]:
    """Rows of values as text, NULL as None."""
    columns = [_texts(column) for column in table.columns]
    return (list(row) for row in zip(*columns, strict=True)) if columns else iter([])


def _texts(column: pa.ChunkedArray) -> Sequence[str | None]:
    kind = column.type
    if _is.is_string(kind) or _is.is_large_string(kind) or _is.is_null(kind):
        values: list[str | None] = column.to_pylist()
        return values
    if _is.is_boolean(kind) or _is.is_integer(kind) or _is.is_date(kind):
        texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
        return texts
    return [None if value is None else _text(value, kind) for value in column.to_pylist()]


def _text(value: Any, kind: pa.DataType) -> str:
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return _timestamp_text(value)
    if isinstance(value, bytes):
        return value.hex()  # what the connector reads
    if isinstance(value, timedelta):
        return _interval_text(value)
    if isinstance(value, list | dict | tuple):
        return json.dumps(_plain(value, kind), ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else repr(value)


def _timestamp_text(value: datetime) -> str:
    text = value.replace(tzinfo=None).isoformat(timespec="milliseconds" if value.microsecond % 1000 == 0 else "auto")
    return f"{text}Z" if value.tzinfo is not None else text


def _interval_text(value: timedelta) -> str:
    sign = "-" if value < timedelta(0) else ""
    value = abs(value)
    hours, rest = divmod(value.seconds, 3600)
    fraction = f"{value.microseconds:06}".rstrip("0")
    return f"{sign}{value.days} {hours:02}:{rest // 60:02}:{rest % 60:02}" + (f".{fraction}" if fraction else "")


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A nested value as JSON has it; a map, which Arrow gives as pairs, is an object."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _float_text(value)
    if isinstance(value, dict):
        return {kind.field(at).name: _plain(value[kind.field(at).name], kind.field(at).type)
                for at in range(kind.num_fields)}  # fmt: skip
    if isinstance(value, list):
        if _is.is_map(kind):
            return {str(_plain(key, kind.key_type)): _plain(item, kind.item_type) for key, item in value}
        return [_plain(item, kind.value_type) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal) and len(value.as_tuple().digits) <= _FLOAT_DIGITS:
        return float(value)
    return value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else _text(value, kind)


def csv_bytes(table: pa.Table, *, header: bool) -> bytes:
    """The rows as RFC 4180, NULL as `null`. Source: Statement Execution API, `format`."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    if header:
        writer.writerow(table.column_names)
    writer.writerows(["null" if value is None else value for value in row] for row in text_rows(table))
    return sink.getvalue().encode()


def json_bytes(table: pa.Table) -> bytes:
    """The rows as one compact JSON array of arrays."""
    import orjson

    return orjson.dumps(list(text_rows(table)))
