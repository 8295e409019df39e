"""Replays: recorded requests answered by another version, and how its answers differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.replay.domain import UNDER_WAY, Asked, Replay, State
from millpond.replay.service import Seen
from millpond.serving.references import read_asked
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    TableColumn,
    TextField,
    Tone,
    badge,
    button,
    card,
    el,
    facts,
    link,
    move_on,
    notice,
)
from millpond.ui.endpoint.rollout import numeric
from millpond.ui.endpoint.view import EndpointTab, View
from millpond.ui.forms import form, labelled, reloading, submit
from millpond.ui.theme import CHART_COLOURS

_POLL_S = 2.0
_TONES: dict[State, Tone] = {State.DONE: "good", State.ERROR: "bad", State.CANCELLED: "plain"}
_LIST = (
    TableColumn(label="Version"),
    TableColumn(label="State"),
    TableColumn(label="Found", grow=True),
    TableColumn(label="Requests", numeric=True),
    TableColumn(label="For", short=True, optional=True),
    TableColumn(label="When"),
)
_LABELS = (
    TableColumn(label="Recorded"),
    TableColumn(label="Replayed"),
    TableColumn(label="Rows", numeric=True),
    TableColumn(label="", grow=True),
)
_EXAMPLES = (
    TableColumn(label="Request", grow=True),
    TableColumn(label="Row", numeric=True),
    TableColumn(label="Recorded"),
    TableColumn(label="Replayed"),
)
_ERRORS = (TableColumn(label="Requests", numeric=True), TableColumn(label="What the version said", grow=True))


@dataclass(frozen=True, kw_only=True)
class _Replays:
    listed: Sequence[Replay]
    seen: Seen | None
    """The one that the address names."""


def _load(view: View) -> _Replays:
    services, principal, name = view.visit.services, view.visit.principal, view.endpoint.name
    asked = view.visit.query.get("replay")
    if asked:
        return _Replays(listed=(), seen=services.replays.get(principal, name, asked))
    return _Replays(listed=services.replays.list(principal, name), seen=None)


def _draw(view: View, found: _Replays) -> None:
    with el("div", cls="mp-stack"):
        if found.seen is not None:
            _draw_one(view, found.seen)
            return
        if view.may_manage and view.endpoint.active is not None:
            with card("Replay recorded requests"), el("div", cls="mp-stack"):
                _draw_form(view)
        if found.listed:
            with card("Replays"):
                DataTable(label="Replays", columns=_LIST, rows=_rows(view, found.listed))
        else:
            el("p", "No recorded requests have been replayed yet.", cls="mp-muted")


def _rows(view: View, replays: Sequence[Replay]) -> Rows:
    return [
        [
            Cell(text=f"Version {each.version}", href=view.visit.link(tab="replays", replay=each.id), note=each.model),
            Cell(badges=((each.state.value, _TONES.get(each.state, "info")),)),
            Cell(text=each.message[:600]),
            f"{each.done:,} of {each.total or each.asked['requests']:,}",
            each.requester,
            Cell(time_ms=epoch_ms(each.created_at)),
        ]
        for each in replays
    ]


def _draw_form(view: View) -> None:
    def begin(principal: Principal) -> object:
        asked = Asked(
            requests=int(numeric(requests.value, "Requests")), tolerance=numeric(tolerance.value, "Tolerance")
        )
        model = read_asked(model_name.value.strip(), version.value.strip())
        return view.visit.services.replays.begin(principal, view.endpoint.name, model, asked)

    el("p", "A version answers the newest requests of the inference table in a process of its own. No client sees it.",
       cls="mp-note")  # fmt: skip
    with form(reloading(view.visit, begin), label="Replay"):
        with labelled("Version"):
            version = TextField(label="Version", placeholder="2, @challenger")
        with labelled("Model"):
            model_name = TextField(label="Model", placeholder="The endpoint's own")
        with labelled("Requests"):
            requests = TextField(label="Requests", value=str(Asked.requests))
        with labelled("Tolerance"):
            tolerance = TextField(label="Tolerance", value=f"{Asked.tolerance:g}")
        submit("Replay")


def _draw_one(view: View, seen: Seen) -> None:
    replay = seen.replay
    link("All replays", view.visit.link(replay=None))
    with card(f"{replay.model}, version {replay.version}"), el("div", cls="mp-stack"):
        with el("div", cls="mp-row"):
            badge(replay.state.value, _TONES.get(replay.state, "info"))
            told = el("span", _progress(replay), role="status")
        if replay.state in UNDER_WAY:
            el("progress", max=str(replay.total or replay.asked["requests"]), value=str(replay.done),
               aria_label="Progress")  # fmt: skip
            if view.may_manage:
                cancel = view.visit.services.replays.cancel
                act = reloading(view.visit, lambda principal: cancel(principal, view.endpoint.name, replay.id))
                button("Cancel", act, symbol="close")
            _follow(view, replay, told)
        if replay.report:
            _draw_facts(replay, replay.report)
    if replay.report:
        _draw_report(view, replay.report)
        if not seen.has_values:
            notice("Predictions and messages are shown to those who may read the whole inference table.")


def _progress(replay: Replay) -> str:
    if replay.state in UNDER_WAY:
        return f"{replay.done:,} of {replay.total:,} requests" if replay.total else "It waits for its turn."
    return replay.message


def _draw_facts(replay: Replay, report: Mapping[str, Any]) -> None:
    outcomes = ", ".join(f"{count:,} {word}" for word, count in report["outcomes"].items())
    times = [
        f"{name} {report['old_ms'][name] or 0:.3g} → {report['new_ms'][name] or 0:.3g} ms" for name in ("p50", "p99")
    ]
    numbers = report["numbers"]
    apart = f"{numbers['mean_apart']:.3g} in the mean, {numbers['largest']:.3g} at most" if numbers else None
    facts(
        [
            ("Requests", outcomes),
            ("Predictions", f"{report['different']:,} of {report['rows']:,} differ, tolerance {report['tolerance']:g}"),
            ("Numbers apart", apart),
            ("In the model", ", ".join(times)),
            ("Recorded by version", ", ".join(f"{name} ({count:,})" for name, count in report["versions"].items())),
            ("Version", Cell(text="its page", href=urls.model_url(replay.model, str(replay.version)))),
            ("With the rights of", replay.requester),
        ]
    )


def _draw_report(view: View, report: Mapping[str, Any]) -> None:
    if report["numbers"] and not report.get("labels"):
        with card("How far predictions are apart"):
            chart = ui.echart(chart_options(report["numbers"]["histogram"], view)).classes("mp-chart mp-small-chart")
            chart.props["role"] = "img"
            quantiles = report["numbers"]["quantiles"]
            chart.props["aria-label"] = "Differences: " + ", ".join(f"{k} {v:.3g}" for k, v in quantiles.items())
    if report.get("labels"):
        with card("Recorded and replayed labels"):
            rows = [_label(*each) for each in report["labels"]]
            DataTable(label="Labels", columns=_LABELS, rows=rows)
    if report.get("errors"):
        with card("Requests that fail"):
            rows = [[f"{each['requests']:,}", Cell(text=each["message"])] for each in report["errors"]]
            DataTable(label="Errors", columns=_ERRORS, rows=rows)
    if report.get("examples"):
        with card("Where they differ most"):
            DataTable(label="Examples", columns=_EXAMPLES, rows=[_example(each) for each in report["examples"]])


def _label(old: str, new: str, count: int) -> list[Cell | str]:
    return [old, new, f"{count:,}", Cell(badges=() if old == new else (("differs", "warn"),))]


def _example(told: Mapping[str, Any]) -> list[Cell | str]:
    return [
        Cell(text=told["request_id"], code=True), str(told["row"]), Cell(text=told["old"], code=True),
        Cell(text=told["new"], code=True),
    ]  # fmt: skip


def chart_options(histogram: Sequence[Sequence[Any]], view: View) -> dict[str, Any]:
    """Bars by bounds, those between the first and the last that are not empty."""
    accent, text, line = CHART_COLOURS[view.visit.theme]
    filled = [place for place, (_, count) in enumerate(histogram) if count]
    shown = histogram[filled[0] : filled[-1] + 1] if filled else histogram[:1]
    axis = {"axisLabel": {"color": text}, "axisLine": {"lineStyle": {"color": line}}, "nameTextStyle": {"color": text}}
    names = [f"≤ {label}" if label != "more" else label for label, _ in shown]
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 8, "right": 16, "top": 30, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "axis"},
        "xAxis": axis | {"type": "category", "data": names},
        "yAxis": axis
        | {"type": "value", "name": "numbers", "splitLine": {"lineStyle": {"color": line, "opacity": 0.4}}},
        "series": [{"type": "bar", "data": [count for _, count in shown], "itemStyle": {"color": accent}}],
    }


def _follow(view: View, replay: Replay, told: Any) -> None:
    """Say how far it is; load the page again when it has ended."""

    async def look() -> None:
        outcome = await view.visit.act(
            lambda principal: view.visit.services.replays.get(principal, view.endpoint.name, replay.id)
        )
        if outcome.value is None or outcome.value.replay.state not in UNDER_WAY:
            timer.deactivate()
            move_on()
            return
        told.text = _progress(outcome.value.replay)
        told.update()

    timer = ui.timer(_POLL_S, look)


REPLAYS = EndpointTab(key="replays", label="Replays", load=_load, draw=_draw, shown=lambda view: view.keeps_requests)
