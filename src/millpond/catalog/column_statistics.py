"""Of which columns a Delta table keeps statistics: of all but FLOAT and DOUBLE, unless its properties say otherwise.

Statistics of files leave NaN out, and Sail takes them for the whole truth (docs/spark.md, "NaN"). So each table that is
made here gets a property that names the columns that have some. It follows the table's columns for as long as it is
what we gave.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.catalog.names import quote

COLUMNS, COUNT = "delta.dataSkippingStatsColumns", "delta.dataSkippingNumIndexedCols"
_MOST = 32
"""As many columns as have statistics where no property says otherwise. Source: Delta Lake, "Data skipping"."""
_FLOATS = frozenset({"float", "double"})
_WITH_ORDER = frozenset({"byte", "short", "integer", "long", "string", "date", "timestamp", "timestamp_ntz"})
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

DeltaField = Mapping[str, Any]
"""A column as Delta's schema writes it."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table."""

    fields: Sequence[DeltaField]
    partitions: Sequence[str] = ()
    """Names of those that partition it; they need no statistics."""

    @property
    def leaves(self) -> list[tuple[str, str]]:
        """Paths and types of what statistics can be of."""
        return list(_leaves([field for field in self.fields if field["name"] not in self.partitions]))


def properties(columns: Columns, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The property that keeps FLOAT and DOUBLE out; none for a table without them, or where `given` says what to do."""
    if chosen(given or {}) or not any(kind in _FLOATS for _, kind in columns.leaves):
        return {}
    return listed(columns)


def listed(columns: Columns) -> dict[str, str]:
    """The property that names the columns of a table that have statistics, so that no later one gets some by itself."""
    named = [path for path, kind in columns.leaves if kind in _WITH_ORDER or kind.startswith("decimal")]
    return {COLUMNS: ",".join(named[:_MOST])} if named else {COUNT: "0"}


def chosen(given: Mapping[str, str]) -> dict[str, str]:
    """Those of some properties that say of which columns there are statistics."""
    names = {COLUMNS.lower(): COLUMNS, COUNT.lower(): COUNT}
    return {names[key.lower()]: value for key, value in given.items() if key.lower() in names}


def followed(configuration: Mapping[str, str], before: Columns, after: Columns) -> dict[str, str] | None:
    """A table's properties when its columns change; None if they stay, as those that a user chose do."""
    now, wanted = chosen(configuration), properties(after)
    ours = now in ({}, properties(before), listed(before))
    if not ours or now == wanted or (not now and properties(before) == wanted):
        return None
    return {**{key: value for key, value in configuration.items() if key not in now}, **wanted}


def _leaves(fields: Sequence[DeltaField], above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Path and type of each column and each inner field of structs; arrays and maps have no statistics."""
    for field in fields:
        kind, path = field["type"], (*above, field["name"])
        if isinstance(kind, str):
            yield ".".join(name if _PLAIN.fullmatch(name) else quote(name) for name in path), kind
        elif kind["type"] == "struct":
            yield from _leaves(kind["fields"], path)
