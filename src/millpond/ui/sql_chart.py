"""A simple chart of a result: one column across, one up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.ui.grid import GridRows

KINDS: Mapping[str, str] = {"bar": "Bars", "line": "Line", "scatter": "Points"}
MOST_POINTS = 1000


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What to draw: a kind of KINDS and the numbers of the columns."""

    kind: str
    x: int
    y: int


def chosen(rows: GridRows, asked: Mapping[str, str]) -> Chart:
    """The chart that an address asks for; what it leaves out is guessed from the columns."""
    numeric = [index for index, is_number in enumerate(rows.numeric) if is_number]
    y = _column(asked.get("y"), rows, next(iter(numeric[-1:]), len(rows.names) - 1))
    x = _column(asked.get("x"), rows, next((index for index in range(len(rows.names)) if index != y), 0))
    kind = asked.get("kind", "")
    return Chart(kind=kind if kind in KINDS else "bar", x=x, y=y)


def _column(text: str | None, rows: GridRows, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() and int(text) < len(rows.names) else otherwise


def chart_options(rows: GridRows, chart: Chart, colours: Sequence[str]) -> dict[str, Any]:
    """The chart for ECharts; values travel in lists, because NiceGUI evaluates some keys."""
    across, up = rows.column(chart.x)[:MOST_POINTS], rows.column(chart.y)[:MOST_POINTS]
    numbers = rows.numeric[chart.x] and chart.kind != "bar"
    accent, text, line = colours
    axis = {"axisLabel": {"color": text}, "nameTextStyle": {"color": text}, "axisLine": {"lineStyle": {"color": line}}}
    x_axis: dict[str, Any] = (
        {"type": "value", "scale": True} if numbers else {"type": "category", "data": _texts(across)}
    )
    values = [[a, b] for a, b in zip(across, up, strict=True)] if numbers else list(up)
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 12, "right": 24, "top": 32, "bottom": 36, "containLabel": True},
        "tooltip": {"trigger": "item" if chart.kind == "scatter" else "axis"},
        "xAxis": axis | x_axis | {"name": rows.names[chart.x], "nameLocation": "middle", "nameGap": 30},
        "yAxis": axis | {
            "type": "value", "name": rows.names[chart.y], "splitLine": {"lineStyle": {"color": line}},
        },
        "series": [{"type": chart.kind, "name": rows.names[chart.y], "data": values, "itemStyle": {"color": accent}}],
    }  # fmt: skip


def _texts(values: Sequence[Any]) -> list[str]:
    return ["" if value is None else str(value)[:80] for value in values]
