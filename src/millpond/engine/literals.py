"""Values of Spark Connect as SQL text."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from millpond.catalog.names import text_literal
from millpond.engine.errors import UnsupportedError, unsupported
from millpond.engine.shaping import delta_type, sql_type
from millpond.engine.syntax.columns import MAX_PRECISION

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def literal_text(literal: Any) -> str:
    """A literal as SQL of the same value and type. Raises UnsupportedError for kinds that a table has no column for."""
    kind = literal.WhichOneof("literal_type")
    write = _WRITERS.get(kind)
    if write is None:
        raise unsupported(f"A literal of kind {kind} here; put it into a column of the DataFrame first.")
    try:
        return write(getattr(literal, kind))
    except OverflowError as error:
        raise _beyond(str(kind)) from error


def _beyond(kind: str) -> UnsupportedError:
    return unsupported(f"A literal of kind {kind} that no column holds.")


def type_text(data_type: Any) -> str:
    return sql_type(delta_type(data_type))


def _null(data_type: Any) -> str:
    return "NULL" if data_type.WhichOneof("kind") in {None, "null"} else f"CAST(NULL AS {type_text(data_type)})"


def _decimal(value: Any) -> str:
    """Clients send DECIMAL(10,0) whatever the value; Spark takes as many digits as there are, too.

    A short text may stand for a thousand million digits, so they are counted before they are written."""
    try:
        number = Decimal(value.value)
    except InvalidOperation as error:
        raise _beyond("decimal") from error
    if not number.is_finite():
        raise _beyond("decimal")
    digits, exponent = len(number.as_tuple().digits), int(number.as_tuple().exponent)
    scale = max(value.scale, -exponent)
    precision = max(value.precision, digits, digits + exponent, scale)
    if precision > MAX_PRECISION:
        raise _beyond("decimal")
    return f"CAST('{number:f}' AS DECIMAL({precision},{scale}))"


def _cast(sql: str) -> Callable[[Any], str]:
    return lambda value: f"CAST('{value}' AS {sql})"


def _array(value: Any) -> str:
    if not value.elements:
        return f"CAST(array() AS ARRAY<{type_text(value.element_type)}>)"
    return _call("array", value.elements)


def _map(value: Any) -> str:
    if not value.keys:
        return f"CAST(map() AS MAP<{type_text(value.key_type)},{type_text(value.value_type)}>)"
    return _call("map", [item for pair in zip(value.keys, value.values, strict=True) for item in pair])


def _struct(value: Any) -> str:
    names = [field.name for field in value.struct_type.struct.fields]
    pairs = [f"{text_literal(name)}, {literal_text(item)}" for name, item in zip(names, value.elements, strict=True)]
    return f"named_struct({', '.join(pairs)})"


def _call(function: str, items: Sequence[Any]) -> str:
    return f"{function}({', '.join(map(literal_text, items))})"


def _date(days: int) -> str:
    return f"DATE '{date(1970, 1, 1) + timedelta(days=days)}'"


def _timestamp_ntz(micros: int) -> str:
    moment = (_EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None)
    return f"CAST('{moment.isoformat(sep=' ')}' AS TIMESTAMP_NTZ)"


_WRITERS: dict[str | None, Callable[[Any], str]] = {
    "null": _null,
    "binary": lambda value: f"X'{value.hex()}'",
    "boolean": lambda value: str(value).upper(),
    "byte": _cast("TINYINT"),
    "short": _cast("SMALLINT"),
    "integer": _cast("INT"),
    "long": _cast("BIGINT"),
    "float": _cast("FLOAT"),
    "double": _cast("DOUBLE"),
    "decimal": _decimal,
    "string": text_literal,
    "date": _date,
    "timestamp": lambda micros: f"timestamp_micros({micros})",
    "timestamp_ntz": _timestamp_ntz,
    "day_time_interval": lambda micros: f"INTERVAL '{micros}' MICROSECONDS",
    "array": _array,
    "map": _map,
    "struct": _struct,
}
