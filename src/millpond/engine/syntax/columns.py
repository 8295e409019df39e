"""Grammar of what stands inside statements: data types, column definitions, constraints, properties, references."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from millpond.catalog.domain import Column
from millpond.engine.errors import AnalysisError, SparkError, unsupported
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import AsOf, ColumnSpec, Constraint, DeltaType, GuardSpec, Name, TableRef

_PRIMITIVES: dict[str, str] = {
    "BOOLEAN": "boolean",
    "TINYINT": "byte",
    "BYTE": "byte",
    "SMALLINT": "short",
    "SHORT": "short",
    "INT": "integer",
    "INTEGER": "integer",
    "BIGINT": "long",
    "LONG": "long",
    "FLOAT": "float",
    "REAL": "float",
    "DOUBLE": "double",
    "STRING": "string",
    "BINARY": "binary",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_LTZ": "timestamp",
    "TIMESTAMP_NTZ": "timestamp_ntz",
}
_UNSTORABLE = frozenset({"VOID", "NULL", "INTERVAL", "VARIANT", "OBJECT", "TIME", "GEOGRAPHY", "GEOMETRY"})
MAX_PRECISION = 38


def data_type(cursor: Cursor) -> DeltaType:
    """A Spark type as its Delta JSON; `varchar(n)` and `char(n)` come out as string (see `column_type`)."""
    word = cursor.word()
    if word is None or not word.is_bare:
        cursor.fail("expected a data type")
    name = word.text.upper()
    if name in _UNSTORABLE:
        raise unsupported(f"The type {name} cannot be stored in a Delta table here.", "DELTA_UNSUPPORTED_DATA_TYPES")
    readers = {"ARRAY": _array, "MAP": _map, "STRUCT": _struct, "DECIMAL": _decimal, "DEC": _decimal}
    readers |= {"NUMERIC": _decimal, "VARCHAR": _sized_text, "CHAR": _sized_text, "CHARACTER": _sized_text}
    if name in readers:
        cursor.take()
        with cursor.nested():
            return readers[name](cursor)
    if name not in _PRIMITIVES:
        raise _unknown_type(cursor, word.text)
    cursor.take()
    if name == "DOUBLE":
        cursor.accept("PRECISION")
    return _PRIMITIVES[name]


def _unknown_type(cursor: Cursor, text: str) -> SparkError:
    error = cursor.error(f"data type {text} is not supported")
    error.error_class = "UNSUPPORTED_DATATYPE"
    error.message = error.message.replace("[PARSE_SYNTAX_ERROR]", "[UNSUPPORTED_DATATYPE]")
    return error


def _decimal(cursor: Cursor) -> DeltaType:
    precision, scale = 10, 0
    if cursor.accept("("):
        precision = cursor.integer()
        if cursor.accept(","):
            scale = cursor.integer()
        if not 1 <= precision <= MAX_PRECISION or scale > precision:
            cursor.fail(f"decimal precision is 1 to {MAX_PRECISION} and scale at most the precision")
        cursor.expect(")")
    return f"decimal({precision},{scale})"


def _sized_text(cursor: Cursor) -> DeltaType:
    cursor.expect("(")
    if cursor.integer() < 1:
        cursor.fail("the length is at least 1")
    cursor.expect(")")
    return "string"


def _array(cursor: Cursor) -> DeltaType:
    cursor.expect("<")
    element = data_type(cursor)
    cursor.expect(">")
    return {"type": "array", "elementType": element, "containsNull": True}


def _map(cursor: Cursor) -> DeltaType:
    cursor.expect("<")
    key = data_type(cursor)
    cursor.expect(",")
    value = data_type(cursor)
    cursor.expect(">")
    return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}


def _struct(cursor: Cursor) -> DeltaType:
    cursor.expect("<")
    fields = cursor.comma_list(_struct_field)
    cursor.expect(">")
    seen = [field["name"].lower() for field in fields]
    for name in seen:
        if seen.count(name) > 1:
            raise duplicate_column(name)
    return {"type": "struct", "fields": list(fields)}


def _struct_field(cursor: Cursor) -> dict[str, Any]:
    name = cursor.identifier()
    cursor.accept(":")
    kind = data_type(cursor)
    nullable = not cursor.accept("NOT", "NULL")
    metadata = {"comment": cursor.string()} if cursor.accept("COMMENT") else {}
    return {"name": name, "type": kind, "nullable": nullable, "metadata": metadata}


def column_type(cursor: Cursor) -> tuple[DeltaType, str | None]:
    """A column's type, and the text `varchar(n)` or `char(n)` if the user asked for one."""
    sized = next((name for name in ("VARCHAR", "CHAR", "CHARACTER") if cursor.sees(name, "(")), None)
    start = cursor.position
    kind = data_type(cursor)
    if sized is None:
        return kind, None
    cursor.rewind(start + 2)
    length = cursor.integer()
    cursor.expect(")")
    return kind, f"{'varchar' if sized == 'VARCHAR' else 'char'}({length})"


def column_spec(
    cursor: Cursor, *, nested: bool = False, masks: bool = False
) -> tuple[ColumnSpec, tuple[Constraint, ...]]:
    """`name type [NOT NULL] [DEFAULT e] [GENERATED ALWAYS AS (e)] [COMMENT s] [FIRST | AFTER c] [key]`.

    With `masks` also `[MASK f [USING COLUMNS (c, ...)]]`.
    """
    path = cursor.name(at_most=64) if nested else (cursor.identifier(),)
    kind, sized = column_type(cursor)
    options: dict[str, Any] = {"path": path, "type": kind, "varchar": sized}
    constraints: list[Constraint] = []
    while _column_option(cursor, options, constraints, path[-1], masks=masks):
        pass
    return ColumnSpec(**options), tuple(constraints)


_AFTER_EXPRESSION = (
    "NOT NULL",
    "COMMENT",
    "GENERATED",
    "FIRST",
    "AFTER",
    "PRIMARY",
    "REFERENCES",
    "CONSTRAINT",
    "CHECK",
    "MASK",
)


def mask(cursor: Cursor) -> GuardSpec:
    """`f [USING COLUMNS (c, ...)]`, after the word MASK."""
    function = cursor.name()
    if not cursor.accept("USING", "COLUMNS"):
        return GuardSpec(function=function)
    return GuardSpec(function=function, columns=cursor.in_parentheses(Cursor.identifier))


def row_filter(cursor: Cursor) -> GuardSpec:
    """`f ON (c, ...)`, after ROW FILTER; the parentheses may be empty."""
    function = cursor.name()
    cursor.expect("ON")
    if cursor.accept("(", ")"):
        return GuardSpec(function=function)
    return GuardSpec(function=function, columns=cursor.in_parentheses(Cursor.identifier))


def _column_option(
    cursor: Cursor, options: dict[str, Any], constraints: list[Constraint], column: str, *, masks: bool
) -> bool:
    if cursor.accept("NOT", "NULL"):
        _once(cursor, options, "nullable", False)
    elif cursor.accept("COMMENT"):
        _once(cursor, options, "comment", cursor.string())
    elif cursor.accept("DEFAULT"):
        _once(cursor, options, "default", cursor.text_until(*_AFTER_EXPRESSION))
    elif cursor.accept("GENERATED"):
        _once(cursor, options, "generated", _generation(cursor))
    elif masks and cursor.accept("MASK"):
        _once(cursor, options, "mask", mask(cursor))
    elif cursor.accept("FIRST"):
        _once(cursor, options, "first", True)
    elif cursor.accept("AFTER"):
        _once(cursor, options, "after", cursor.identifier())
    elif cursor.sees_any("CONSTRAINT", "PRIMARY", "REFERENCES", "CHECK"):
        constraints.append(constraint(cursor, column=column))
    else:
        return False
    return True


def _once(cursor: Cursor, options: dict[str, Any], key: str, value: object) -> None:
    if key in options:
        cursor.fail("the same option is given twice")
    options[key] = value


def _generation(cursor: Cursor) -> str:
    if cursor.accept("BY", "DEFAULT") or cursor.sees("ALWAYS", "AS", "IDENTITY"):
        raise unsupported("Identity columns are not supported; use a plain column or `row_number()`.")
    cursor.expect("ALWAYS", "AS")
    return cursor.parenthesised_text()


def constraint(cursor: Cursor, *, column: str | None = None) -> Constraint:
    """`[CONSTRAINT name] CHECK (e) | PRIMARY KEY (c, ...) | FOREIGN KEY (c, ...) REFERENCES ...`."""
    name = cursor.identifier() if cursor.accept("CONSTRAINT") else None
    if cursor.accept("CHECK"):
        made = Constraint(name=name, kind="CHECK", expression=cursor.parenthesised_text())
    elif cursor.accept("PRIMARY", "KEY"):
        made = _primary_key(cursor, name, column)
    elif column is not None and cursor.accept("REFERENCES"):
        made = _foreign_key(cursor, name, (column,))
    else:
        cursor.expect("FOREIGN", "KEY")
        columns = cursor.in_parentheses(Cursor.identifier)
        cursor.expect("REFERENCES")
        made = _foreign_key(cursor, name, columns)
    while (said := _constraint_option(cursor)) is not None:
        made = replace(made, rely=made.rely or said == "RELY")
    return made


def _constraint_option(cursor: Cursor) -> str | None:
    if cursor.accept("NOT", "ENFORCED"):
        return "NOT ENFORCED"
    if cursor.accept("INITIALLY", "DEFERRED"):
        return "INITIALLY DEFERRED"
    return cursor.accept_any("RELY", "NORELY", "DEFERRABLE")


def _primary_key(cursor: Cursor, name: str | None, column: str | None) -> Constraint:
    keys = ((column, False),) if column else cursor.in_parentheses(_key_column)
    return Constraint(
        name=name,
        kind="PRIMARY KEY",
        expression="",
        columns=tuple(key for key, _ in keys),
        timeseries_columns=tuple(key for key, is_time in keys if is_time),
    )


def _key_column(cursor: Cursor) -> tuple[str, bool]:
    """A column of a primary key, and whether it is the time of a row's values."""
    return cursor.identifier(), cursor.accept("TIMESERIES")


def _foreign_key(cursor: Cursor, name: str | None, columns: tuple[str, ...]) -> Constraint:
    parent = cursor.name()
    parent_columns = cursor.in_parentheses(Cursor.identifier) if cursor.sees("(") else ()
    return Constraint(
        name=name, kind="FOREIGN KEY", expression="", columns=columns, parent=parent, parent_columns=parent_columns
    )


def properties(cursor: Cursor) -> dict[str, str]:
    """`('key' = 'value', a.b = 1, ...)` with string, number and boolean values, all kept as text."""
    found: dict[str, str] = {}
    for key, value in cursor.in_parentheses(_property):
        if key in found:
            raise AnalysisError(
                "DUPLICATE_KEY", f"Found duplicate keys `{key}`.", sql_state="23505", parameters={"keyColumn": key}
            )
        found[key] = value
    return found


def property_key(cursor: Cursor) -> str:
    return cursor.string() if cursor.sees_string() else ".".join(cursor.name(at_most=64))


def _property(cursor: Cursor) -> tuple[str, str]:
    key = property_key(cursor)
    cursor.accept("=")
    if cursor.sees_string():
        return key, cursor.string()
    sign = "-" if cursor.accept("-") else ""
    word = cursor.take()
    if word.text.lower() in ("true", "false") and word.is_bare and not sign:
        return key, word.text.lower()
    if not word.text[:1].isdigit():
        cursor.rewind(cursor.position - 1)
        cursor.fail("expected a string, number or boolean")
    return key, sign + word.text


def table_ref(cursor: Cursor) -> TableRef:
    """A table's name, or a path: `delta.`/a/b``, or the string literal `'/a/b'`."""
    if cursor.sees_string():
        return TableRef(path=cursor.string())
    return as_table_ref(cursor.name())


def as_table_ref(name: Name) -> TableRef:
    if len(name) == 2 and name[0].lower() == "delta" and ("/" in name[1] or ":" in name[1]):
        return TableRef(path=name[1])
    return TableRef(name=name)


def as_of(cursor: Cursor) -> AsOf:
    """`VERSION AS OF 3` or `TIMESTAMP AS OF '2026-01-01'`; the word FOR may precede."""
    cursor.accept("FOR")
    kind = cursor.expect_any("VERSION", "TIMESTAMP", "SYSTEM_VERSION", "SYSTEM_TIME")
    cursor.expect("AS", "OF")
    if kind in ("VERSION", "SYSTEM_VERSION"):
        return AsOf(version=int(cursor.string()) if _quoted_number(cursor) else cursor.integer())
    for literal in ("TIMESTAMP", "DATE"):
        cursor.accept(literal)
    return AsOf(timestamp=cursor.string())


def _quoted_number(cursor: Cursor) -> bool:
    word = cursor.word()
    return cursor.sees_string() and word is not None and word.text.isdecimal()


def duplicate_column(name: str) -> AnalysisError:
    return AnalysisError(
        "COLUMN_ALREADY_EXISTS",
        f"The column `{name}` already exists. Choose another name or rename the existing column.",
        sql_state="42711",
        parameters={"columnName": f"`{name}`"},
    )


def columns_of(told: Sequence[tuple[str, str, str]], *, day: str | None = None) -> tuple[Column, ...]:
    """Columns as the catalog has them, of names, types and comments; the table is partitioned by `day`."""
    return tuple(
        Column(
            name=name,
            type_text=text,
            type_json=json.dumps(data_type(Cursor(text))),
            comment=comment,
            position=position,
            partition_index=0 if name == day else None,
        )
        for position, (name, text, comment) in enumerate(told)
    )
