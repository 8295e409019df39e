"""Features that are declared: an aggregation of a source's rows, computed when it is asked for.

Source of names and arguments: Databricks' public reference of declarative features, both its first form
(`inputs`, `function`, `time_window`, keys at the source) and its later one (`AggregationFunction`, `entity`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from millpond.features.lookups import Names, names_of
from millpond.features.windows import Function, Window, function_of, window_of

_TOLD = frozenset(
    {
        "full_name", "name", "catalog_name", "schema_name", "description", "source", "function", "entities",
        "timeseries_column", "created_at", "created_by", "lineage_context",
    }
)  # fmt: skip
"""What the Databricks SDK's `Feature` has, without what its first form had beside the function."""


@dataclass(frozen=True, kw_only=True)
class DeltaTableSource:
    """A table whose rows are what happened: to whom, and when."""

    catalog_name: str
    schema_name: str
    table_name: str
    entity_columns: Names = None
    timeseries_column: str | None = None
    filter_condition: str | None = None
    """SQL over the table's columns: only rows for which it is true count."""

    @property
    def full_name(self) -> str:
        """The table's name of three levels."""
        return f"{self.catalog_name}.{self.schema_name}.{self.table_name}"


@dataclass(frozen=True)
class AggregationFunction:
    """A function over a window."""

    function: Function
    time_window: Window


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A declared feature. `create_feature` or `register_feature` gives it a place in the catalog."""

    source: DeltaTableSource
    function: AggregationFunction
    entity: Names = None
    """Columns of the source that say whose a row is, and of the labels; the source's `entity_columns` if not given."""
    timeseries_column: str | None = None
    """The time of the source's rows, and of the labels; that of the source if not given."""
    name: str | None = None
    description: str | None = None
    catalog_name: str | None = None
    schema_name: str | None = None
    created_by: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        entity = names_of(self.entity) or names_of(self.source.entity_columns)
        time = self.timeseries_column or self.source.timeseries_column
        if not entity or time is None:
            raise ValueError(f"A feature of {self.source.full_name} needs entity columns and a timeseries column.")
        if not self.function.function.input:
            raise ValueError(f"{type(self.function.function).__name__} needs an input: the column that it is of.")
        source = replace(self.source, entity_columns=entity, timeseries_column=time)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "entity", entity)
        object.__setattr__(self, "timeseries_column", time)
        object.__setattr__(self, "name", (self.name or "").strip() or self._own_name())

    @property
    def full_name(self) -> str:
        """Its name of three levels. Raises ValueError when it is not registered."""
        if self.catalog_name is None or self.schema_name is None:
            raise ValueError(f"The feature '{self.name}' is not registered: use register_feature.")
        return f"{self.catalog_name}.{self.schema_name}.{self.name}"

    @property
    def output(self) -> str:
        """The column that it makes."""
        return str(self.name)

    @property
    def input(self) -> str:
        """The column that it is of."""
        return str(self.function.function.input)

    @property
    def time_window(self) -> Window:
        """The window of its function."""
        return self.function.time_window

    @property
    def rows(self) -> tuple[Any, ...]:
        """What features have in common that can be computed together: of whose rows they are, and in which order."""
        return (self.source.full_name, self.source.filter_condition, self.entity, self.timeseries_column)

    def _own_name(self) -> str:
        function = self.function.function
        percent = f"_{getattr(function, 'percentile', '')}".rstrip("_").replace(".", "_")
        return f"{self.input}_{function.kind}{percent}_{self.function.time_window.label}".lower()


def renamed(feature: Feature, *, table: str) -> Feature:
    """The same feature, of the table's full name."""
    catalog, schema, name = table.split(".")
    return replace(feature, source=replace(feature.source, catalog_name=catalog, schema_name=schema, table_name=name))


def to_json(feature: Feature) -> dict[str, Any]:
    """A feature as the Databricks SDK's `Feature` has it."""
    function = feature.function.function.to_json()
    source = {
        "full_name": feature.source.full_name,
        "filter_condition": feature.source.filter_condition,
        "entity_columns": list(names_of(feature.entity)),
        "timeseries_column": feature.timeseries_column,
    }
    told = {
        "full_name": feature.full_name if feature.catalog_name else None,
        "name": feature.name,
        "description": feature.description,
        "source": {"delta_table_source": {name: value for name, value in source.items() if value is not None}},
        "function": {"aggregation_function": {**function, "time_window": feature.time_window.to_json()}},
        "entities": [{"name": name} for name in names_of(feature.entity)],
        "timeseries_column": {"name": feature.timeseries_column},
    }
    return {name: value for name, value in told.items() if value is not None}


def from_json(told: Mapping[str, Any]) -> Feature:
    """A feature from the Databricks SDK's JSON. Raises ValueError for what is not known here, by name."""
    if unknown := set(told) - _TOLD:
        raise ValueError(f"A feature takes no {', '.join(sorted(unknown))} here.")
    source = _only(told.get("source") or {}, "delta_table_source", "source")
    aggregation = _only(told.get("function") or {}, "aggregation_function", "function")
    catalog, schema, table = _three(source.get("full_name", ""), "a table")
    if unknown := set(source) - {"full_name", "filter_condition", "entity_columns", "timeseries_column"}:
        raise ValueError(f"The source takes no {', '.join(sorted(unknown))} here.")
    function = {name: value for name, value in aggregation.items() if name != "time_window"}
    place = _three(told["full_name"], "a feature") if told.get("full_name") else (None, None, told.get("name"))
    return Feature(
        source=DeltaTableSource(
            catalog_name=catalog, schema_name=schema, table_name=table, filter_condition=source.get("filter_condition")
        ),
        function=AggregationFunction(function_of(function), window_of(aggregation.get("time_window") or {})),
        entity=[each["name"] for each in told.get("entities") or ()] or source.get("entity_columns"),
        timeseries_column=(told.get("timeseries_column") or {}).get("name") or source.get("timeseries_column"),
        name=place[2],
        description=told.get("description"),
        catalog_name=place[0],
        schema_name=place[1],
        created_by=told.get("created_by"),
    )


def _only(told: Mapping[str, Any], known: str, what: str) -> Mapping[str, Any]:
    if set(told) != {known}:
        raise ValueError(f"The feature's {what} must be a {known}, not {sorted(told) or 'nothing'}.")
    found: Mapping[str, Any] = told[known]
    return found


def _three(name: str, what: str) -> tuple[str, str, str]:
    parts = name.split(".")
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"'{name}' is no full name of {what}; write catalog.schema.name.")
    return parts[0], parts[1], parts[2]
