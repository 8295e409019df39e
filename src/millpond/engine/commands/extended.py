"""SHOW TABLE EXTENDED: what is known of each table, as one text of lines.

Source: Spark SQL reference, "SHOW TABLE EXTENDED"; `StructType.treeString` for the schema.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from millpond.catalog.domain import Table
from millpond.engine.commands.describe import details
from millpond.engine.types import Field, fields_of


def information(table: Table) -> str:
    """The lines on a table. Its comment comes after all else but the schema: dbt reads it up to the last field."""
    lines = {key: value for key, value, _ in details(table)}
    comment = lines.pop("Comment", None)
    partitions = sorted(
        (column.partition_index, column.name) for column in table.columns if column.partition_index is not None
    )
    if partitions:
        lines["Partition Columns"] = "[" + ", ".join(f"`{name}`" for _, name in partitions) + "]"
    if comment is not None:
        lines["Comment"] = comment
    lines["Schema"] = tree(fields_of(table.columns))
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def tree(columns: Sequence[Field]) -> str:
    """A schema as Spark's `printSchema` shows it."""
    return "\n".join(["root", *(line for one in columns for line in _field(one, " "))]) + "\n"


def _field(one: Field, indent: str) -> Iterator[str]:
    yield f"{indent}|-- {one['name']}: {_name(one['type'])} (nullable = {_word(one['nullable'])})"
    yield from _inner(one["type"], f"{indent}|    ")


def _inner(kind: Any, indent: str) -> Iterator[str]:
    if isinstance(kind, str):
        return
    if kind["type"] == "struct":
        for one in kind["fields"]:
            yield from _field(one, indent)
    elif kind["type"] == "array":
        yield f"{indent}|-- element: {_name(kind['elementType'])} (containsNull = {_word(kind['containsNull'])})"
        yield from _inner(kind["elementType"], f"{indent}|    ")
    elif kind["type"] == "map":
        yield f"{indent}|-- key: {_name(kind['keyType'])}"
        yield from _inner(kind["keyType"], f"{indent}|    ")
        nullable = _word(kind["valueContainsNull"])
        yield f"{indent}|-- value: {_name(kind['valueType'])} (valueContainsNull = {nullable})"
        yield from _inner(kind["valueType"], f"{indent}|    ")


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else str(kind["type"])


def _word(value: bool) -> str:
    return str(value).lower()
