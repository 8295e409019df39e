"""Results of commands as Arrow tables with the columns that Spark users expect."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

TEXT = pa.string()
LONG = pa.int64()
TIMESTAMP = pa.timestamp("us", tz="UTC")
TEXT_MAP = pa.map_(pa.string(), pa.string())
TEXTS = pa.list_(pa.string())


def nothing() -> pa.Table:
    """The answer of a command that has none: no columns, no rows."""
    return pa.schema([]).empty_table()


def table(columns: Sequence[tuple[str, pa.DataType]], rows: Iterable[Sequence[Any]]) -> pa.Table:
    """Rows under nullable columns."""
    listed = list(rows)
    arrays = [pa.array([row[at] for row in listed], kind) for at, (_, kind) in enumerate(columns)]
    return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field(name, kind) for name, kind in columns]))


def texts(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> pa.Table:
    """Rows of text."""
    return table([(name, TEXT) for name in columns], rows)


def pairs(values: Mapping[str, str] | None) -> list[tuple[str, str]] | None:
    """A map as Arrow takes it, sorted by key."""
    return None if values is None else sorted(values.items())


def moment(milliseconds: int | None) -> datetime | None:
    """Milliseconds since 1970 as a moment."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
