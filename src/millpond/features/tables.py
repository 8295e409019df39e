"""A feature table: any Delta table with a primary key, as the catalog describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KNOWN_AT = "features.known_at"
"""The table property that names the column with the time at which a row was known."""
TIME_TYPES = frozenset({"timestamp", "timestamp_ntz", "date"})


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """What `get_table` tells of a feature table."""

    name: str
    table_id: str = ""
    description: str | None = None
    primary_keys: tuple[str, ...]
    """With the time column, if there is one."""
    timeseries_columns: tuple[str, ...] = ()
    """At most one of the primary keys: the time of a row's values."""
    partition_columns: tuple[str, ...] = ()
    types: Mapping[str, str]
    """The SQL type of each column."""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    creation_timestamp: int = 0
    """Milliseconds since 1970."""

    @property
    def features(self) -> list[str]:
        """The columns that are features: not the keys, nor when a row was known."""
        return [name for name in self.types if name not in (*self.primary_keys, self.known_at)]

    @property
    def timestamp_keys(self) -> tuple[str, ...]:
        """What the time column was called before Unity Catalog."""
        return self.timeseries_columns

    @property
    def entity_keys(self) -> tuple[str, ...]:
        """The primary keys without the time column."""
        return tuple(key for key in self.primary_keys if key not in self.timeseries_columns)

    @property
    def known_at(self) -> str | None:
        """The column with the time at which a row was known, for tables that are filled in later."""
        return self.properties.get(KNOWN_AT)


def feature_table(info: Mapping[str, Any], tags: Mapping[str, str], *, keyless: bool = False) -> FeatureTable:
    """The feature table that the catalog's TableInfo describes.

    Raises ValueError when it has no primary key, unless it may be `keyless`, as a source of aggregations may.
    """
    name = info["full_name"]
    found = (each.get("primary_key_constraint") for each in info.get("table_constraints", ()))
    key = next((each for each in found if each), None)
    if key is None and keyless:
        key = {"child_columns": []}
    if key is None:
        raise ValueError(
            f"'{name}' is no feature table, as it has no primary key. "
            f"Declare one: ALTER TABLE {name} ADD CONSTRAINT {name.rpartition('.')[2]}_pk PRIMARY KEY (...)."
        )
    parts = [(column["partition_index"], column["name"]) for column in info["columns"] if "partition_index" in column]
    return FeatureTable(
        name=name,
        table_id=info["table_id"],
        description=info.get("comment"),
        primary_keys=tuple(key["child_columns"]),
        timeseries_columns=tuple(key.get("timeseries_columns", ())),
        partition_columns=tuple(column for _, column in sorted(parts)),
        types={column["name"]: column["type_text"] for column in info["columns"]},
        tags=tags,
        properties=info.get("properties", {}),
        creation_timestamp=info["created_at"],
    )
