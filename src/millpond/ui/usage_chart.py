"""Usage over time as stacked bars: the largest groups by name, the others together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millpond.billing.domain import Resource
from millpond.billing.usage import Sum
from millpond.ui.theme import CHART_COLOURS, SERIES_COLOURS, Theme

MEASURES: Mapping[str, tuple[str, Resource | None]] = {
    "cost": ("Cost", None),
    "cpu": ("CPU, core-seconds", Resource.CPU),
    "memory": ("Memory, GiB-seconds", Resource.MEMORY),
    "gpu": ("GPU-seconds", Resource.GPU),
    "storage": ("Storage, GiB-hours", Resource.STORAGE),
    "requests": ("Requests", Resource.REQUEST),
}
"""What can be drawn: its name, and of which resource it is."""
OTHERS = "others"
_MOST_SERIES = len(SERIES_COLOURS) - 1


@dataclass(frozen=True, kw_only=True)
class Series:
    """Amounts by group and time."""

    times: Sequence[datetime]
    groups: Mapping[str, Sequence[float]]
    """The largest first; one amount for each time."""


def name_of(found: Sum, by: str) -> str:
    """The group of a sum, for people."""
    if by == "sku":
        return found.sku
    if by == "object":
        kind, object_id, name = found.key
        return f"{kind} {name or object_id}".strip() or "not of an object"
    return str(found.key[0]) or "none"


def amount_of(found: Sum, measure: str) -> float:
    """How much of a measure a sum has; what is part of something that is charged for counts once, there."""
    resource = MEASURES[measure][1]
    if resource is None:
        return found.cost
    return found.quantity if found.resource is resource and not found.sku.endswith("_INCLUDED") else 0.0


def series_of(found: Sequence[Sum], by: str, measure: str) -> Series:
    """The series of a chart."""
    amounts: dict[str, dict[datetime, float]] = defaultdict(lambda: defaultdict(float))
    for each in found:
        if each.start is not None and (amount := amount_of(each, measure)):
            amounts[name_of(each, by)][each.start] += amount
    times = sorted({time for by_time in amounts.values() for time in by_time})
    ranked = sorted(amounts, key=lambda name: -sum(amounts[name].values()))
    groups = {name: [amounts[name].get(time, 0.0) for time in times] for name in ranked[:_MOST_SERIES]}
    if rest := ranked[_MOST_SERIES:]:
        groups[OTHERS] = [sum(amounts[name].get(time, 0.0) for name in rest) for time in times]
    return Series(times=times, groups=groups)


def chart_options(series: Series, measure: str, theme: Theme, *, by_hour: bool) -> dict[str, Any]:
    """The chart for ECharts; names travel as values, because NiceGUI evaluates some keys."""
    _, text, line = CHART_COLOURS[theme]
    axis = {"axisLabel": {"color": text}, "axisLine": {"lineStyle": {"color": line}}}
    shown = "%m-%d %H:00" if by_hour else "%Y-%m-%d"
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 8, "right": 16, "top": 40, "bottom": 8, "containLabel": True},
        "legend": {"top": 0, "left": 0, "type": "scroll", "textStyle": {"color": text}, "itemHeight": 8},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
        "xAxis": axis | {"type": "category", "data": [f"{time:{shown}}" for time in series.times]},
        "yAxis": axis | {
            "type": "value", "min": 0, "splitLine": {"lineStyle": {"color": line, "opacity": 0.4}},
        },
        "series": [
            {
                "type": "bar", "stack": measure, "name": name, "data": [round(amount, 4) for amount in amounts],
                "color": SERIES_COLOURS[number % len(SERIES_COLOURS)], "barMaxWidth": 48,
            }
            for number, (name, amounts) in enumerate(series.groups.items())
        ],
    }  # fmt: skip


def told(series: Series, measure: str) -> str:
    """The sums in words, for who does not see the bars."""
    totals = [f"{name} {sum(amounts):,.2f}" for name, amounts in series.groups.items()]
    return f"{MEASURES[measure][0]}: {', '.join(totals) or 'nothing was used'}"
