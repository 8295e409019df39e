"""A grid of rows: values as a browser can hold them, and AG Grid set up to show them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from nicegui import ui

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_CELL = 2_000
_MAX_SAFE_INTEGER = 2**53 - 1  # larger ones lose digits in a browser
_ROW_PX = 34
_HEADER_PX = 38
_GRID: dict[str, Any] = {
    "defaultColDef": {"sortable": True, "resizable": True, "minWidth": 90, "maxWidth": 420, "cellDataType": False},
    "autoSizeStrategy": {"type": "fitCellContents"},
    "rowHeight": _ROW_PX,
    "headerHeight": _HEADER_PX,
    "suppressFieldDotNotation": True,
    "enableCellTextSelection": True,
}


@dataclass(frozen=True, kw_only=True)
class GridRows:
    """Rows of a table, ready for the browser."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: list[dict[str, Any]]

    def column(self, index: int) -> Sequence[Any]:
        """The values of a column."""
        return [row[f"c{index}"] for row in self.rows]


def grid_rows(table: "pa.Table") -> GridRows:
    """The rows of an Arrow table."""
    import pyarrow as pa

    columns = [[_plain(value) for value in column.to_pylist()] for column in table.columns]
    return GridRows(
        names=tuple(table.column_names),
        types=tuple(str(field.type) for field in table.schema),
        numeric=tuple(pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in table.schema),
        # AG Grid evaluates keys that begin with a colon and splits them at dots: users' names never become keys
        rows=[{f"c{index}": column[row] for index, column in enumerate(columns)} for row in range(table.num_rows)],
    )


def draw_grid(label: str) -> ui.aggrid:
    """An empty grid that says that it loads: in the page from the start, so that the browser loads what it needs."""
    options = _GRID | {"columnDefs": [], "rowData": [], "loading": True}
    grid = ui.aggrid(options, auto_size_columns=False).classes("mp-grid")
    grid.props["role"] = "region"
    grid.props["aria-label"] = label
    return grid


def fill_grid(grid: ui.aggrid, rows: GridRows) -> None:
    """Show rows in a grid, as high as they need."""
    height = _HEADER_PX + _ROW_PX * len(rows.rows) + 20  # and a horizontal scroll bar
    grid.style(f"height: min(62vh, {height}px); min-height: 0")
    grid.options.update(columnDefs=_definitions(rows), rowData=rows.rows, loading=False)
    grid.update()


def _definitions(rows: GridRows) -> list[dict[str, Any]]:
    return [
        {"field": f"c{index}", "headerName": column, "headerTooltip": rows.types[index]}
        | ({"type": "rightAligned"} if rows.numeric[index] else {})
        for index, column in enumerate(rows.names)
    ]


def _plain(value: Any) -> str | int | float | bool | None:
    """A value as the grid shows it: numbers and truth as they are, everything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, str):
        return value[:_LONGEST_CELL]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, bytes):
        return f"0x{value[:64].hex()}{'…' if len(value) > 64 else ''}"
    if isinstance(value, (list, dict, tuple)):
        return json.dumps(value, default=str, ensure_ascii=False)[:_LONGEST_CELL]
    return str(value)[:_LONGEST_CELL]
