"""Between rows and the domain: tables, volumes, functions and models."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Null, null

from millpond.catalog.domain import (
    NO_GUARDS,
    Column,
    Function,
    GuardRef,
    GuardRefs,
    Model,
    Table,
    TableConstraint,
    TableType,
    Volume,
    VolumeType,
)
from millpond.catalog.store.objects import in_schema


def table_of(row: Any) -> Table:
    """The table of a row."""
    return Table(
        **in_schema(row),
        table_type=TableType(row.table_type),
        data_source_format=row.data_source_format,
        storage_location=row.storage_location,
        columns=tuple(Column(**column) for column in row.columns),
        properties=row.properties,
        view_definition=row.view_definition,
        constraints=tuple(_constraint_of(item) for item in row.constraints),
        guards=NO_GUARDS if row.guards is None else _guards_of(row.guards),
        policed=bool(row.policed),
    )


def columns_values(columns: Sequence[Column]) -> dict[str, Any]:
    """Columns as they are stored."""
    words = "\n".join(f"{column.name} {column.comment or ''}".strip().lower() for column in columns)
    return {"columns": [asdict(column) for column in columns], "column_words": words}


def constraints_json(constraints: Sequence[TableConstraint]) -> list[dict[str, Any]]:
    """Constraints as they are stored."""
    return [asdict(item) for item in constraints]


def guards_json(guards: GuardRefs) -> dict[str, Any] | Null:
    """Row filter and masks as they are stored: SQL's NULL where there is none."""
    return asdict(guards) if guards else null()


def volume_of(row: Any) -> Volume:
    """The volume of a row."""
    return Volume(**in_schema(row), volume_type=VolumeType(row.volume_type), storage_location=row.storage_location)


def function_of(row: Any) -> Function:
    """The function of a row."""
    return Function(**in_schema(row), properties=row.properties, definition=row.definition)


def model_of(row: Any) -> Model:
    """The model of a row."""
    return Model(**in_schema(row))


def _constraint_of(item: dict[str, Any]) -> TableConstraint:
    return TableConstraint(
        name=item["name"],
        columns=tuple(item["columns"]),
        parent_table=item["parent_table"],
        parent_columns=tuple(item["parent_columns"]),
        timeseries_columns=tuple(item["timeseries_columns"]),
        rely=item["rely"],
    )


def _guards_of(stored: dict[str, Any]) -> GuardRefs:
    row_filter = stored["row_filter"]
    return GuardRefs(
        row_filter=None if row_filter is None else _guard_of(row_filter),
        masks={column: _guard_of(item) for column, item in stored["masks"].items()},
    )


def _guard_of(stored: dict[str, Any]) -> GuardRef:
    return GuardRef(function_id=stored["function_id"], columns=tuple(stored["columns"]))
