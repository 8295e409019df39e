"""Metrics: the last half hour of each served version, as this server measured it, drawn on while one looks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from millpond.serving.history import LOOK_S, Key, Moment
from millpond.ui.elements import card, el, empty_state
from millpond.ui.endpoint.view import EndpointTab, View
from millpond.ui.theme import CHART_COLOURS, SERIES_COLOURS

Recent = Mapping[Key, Sequence[Moment]]
Measure = Callable[[Moment], float | None]
_CHARTS: Sequence[tuple[str, Sequence[tuple[str, Measure]]]] = (
    ("Requests per second", (("", lambda each: round(each.requests_per_s, 2)),)),
    ("Errors per second", (("", lambda each: round(each.errors_per_s, 2)),)),
    ("Latency, ms", ((" p50", lambda each: _rounded(each.p50_ms)), (" p99", lambda each: _rounded(each.p99_ms)))),
    ("Requests waiting", (("", lambda each: each.waiting),)),
    ("Processes", (("", lambda each: each.replicas),)),
    ("CPU, cores", (("", lambda each: round(each.cpu, 3)),)),
    ("Memory, MB", (("", lambda each: round(each.memory_bytes / 1e6, 1)),)),
)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _load(view: View) -> Recent:
    return view.visit.services.endpoint_options.recent_metrics(view.visit.principal, view.endpoint.name)


def _draw(view: View, recent: Recent) -> None:
    if view.endpoint.active is None:
        empty_state("Nothing is measured yet", "This endpoint does not answer yet.", symbol="monitoring")
        return
    charts = []
    with el("div", cls="mp-stack"):
        el("p", f"The last half hour on this server, a point every {LOOK_S} seconds.", cls="mp-note")
        cards = el("div", cls="mp-grid-cards")
    with cards:
        for title, measures in _CHARTS:
            with card(title):
                chart = ui.echart(chart_options(recent, measures, view)).classes("mp-chart mp-small-chart")
                chart.props["role"] = "img"
                chart.props["aria-label"] = _told(title, recent, measures)
                charts.append((chart, title, measures))

    async def look() -> None:
        outcome = await view.visit.act(
            lambda principal: view.visit.services.endpoint_options.recent_metrics(principal, view.endpoint.name)
        )
        if outcome.value is None:
            timer.deactivate()
            return
        for chart, title, measures in charts:
            chart.options.update(chart_options(outcome.value, measures, view))
            chart.props["aria-label"] = _told(title, outcome.value, measures)
            chart.update()

    timer = ui.timer(LOOK_S, look)


def chart_options(recent: Recent, measures: Sequence[tuple[str, Measure]], view: View) -> dict[str, Any]:
    """A line for each version and measure, for ECharts; names travel as values, because NiceGUI evaluates some keys."""
    _, text, line = CHART_COLOURS[view.visit.theme]
    axis = {"axisLabel": {"color": text}, "axisLine": {"lineStyle": {"color": line}}}
    series = [
        {
            "type": "line", "name": f"{_name(key)}{suffix}", "showSymbol": False, "connectNulls": False,
            "data": [[each.at_ms, measure(each)] for each in moments],
            "lineStyle": {"width": 2, "type": "dashed" if suffix == " p99" else "solid"},
            "color": SERIES_COLOURS[number % len(SERIES_COLOURS)],
        }
        for number, (key, moments) in enumerate(sorted(recent.items()))
        for suffix, measure in measures
    ]  # fmt: skip
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 8, "right": 16, "top": 34 if series else 12, "bottom": 8, "containLabel": True},
        "legend": {"top": 0, "left": 0, "type": "scroll", "textStyle": {"color": text}, "itemHeight": 8},
        "tooltip": {"trigger": "axis"},
        "xAxis": axis | {"type": "time", "splitNumber": 4},
        "yAxis": axis | {"type": "value", "min": 0, "splitLine": {"lineStyle": {"color": line, "opacity": 0.4}}},
        "series": series,
    }


def _name(key: Key) -> str:
    return f"{key[1]} v{key[2]}" if key[2] else key[1]


def _told(title: str, recent: Recent, measures: Sequence[tuple[str, Measure]]) -> str:
    """The newest values in words, for who does not see the lines."""
    told = [
        f"{_name(key)}{suffix} {value:g}"
        for key, moments in sorted(recent.items())
        for suffix, measure in measures
        if moments and (value := measure(moments[-1])) is not None
    ]
    return f"{title}: {', '.join(told) or 'nothing measured yet'}"


METRICS = EndpointTab(key="metrics", label="Metrics", load=_load, draw=_draw)
