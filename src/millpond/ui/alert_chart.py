"""What an alert found, as a line over time with the threshold beside it."""

from collections.abc import Sequence
from typing import Any

from millpond.kernel.clock import epoch_ms
from millpond.sql.alerts.domain import AlertState, Condition, Evaluation

_MARKS = {AlertState.TRIGGERED: "#c94b4b", AlertState.ERROR: "#c27c1f"}


def alert_options(
    condition: Condition, evaluations: Sequence[Evaluation], colours: Sequence[str]
) -> dict[str, Any] | None:
    """The chart for ECharts, of those whose values are numbers; None for fewer than two."""
    points = [
        {
            "value": [epoch_ms(each.started_at), value],
            "itemStyle": {"color": _MARKS.get(each.state or AlertState.OK, colours[0])},
        }
        for each in reversed(evaluations)
        if (value := _number(each.value)) is not None
    ]
    if len(points) < 2:
        return None
    accent, text, line = colours
    axis = {"axisLabel": {"color": text}, "axisLine": {"lineStyle": {"color": line}}}
    series: dict[str, Any] = {
        "type": "line", "name": str(condition.source), "data": points, "symbolSize": 7,
        "lineStyle": {"color": accent}, "itemStyle": {"color": accent},
    }  # fmt: skip
    if isinstance(condition.threshold, float):
        series["markLine"] = {
            "symbol": "none", "silent": True, "lineStyle": {"color": _MARKS[AlertState.TRIGGERED]},
            "label": {"color": text, "position": "insideEndTop"}, "data": [{"yAxis": condition.threshold}],
        }  # fmt: skip
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 12, "right": 24, "top": 24, "bottom": 12, "containLabel": True},
        "tooltip": {"trigger": "axis"},
        "xAxis": axis | {"type": "time"},
        "yAxis": axis | {"type": "value", "scale": True, "splitLine": {"lineStyle": {"color": line}}},
        "series": [series],
    }


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found - found == 0 else None  # neither NaN nor infinite, which JSON has not
