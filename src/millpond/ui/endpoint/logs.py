"""Logs and events: what the processes print, how they were built, and what happened."""

from collections.abc import Sequence
from dataclasses import dataclass

from millpond.kernel.clock import epoch_ms
from millpond.serving.domain import Event
from millpond.ui.elements import Cell, DataTable, Rows, SelectField, TableColumn, card, code_block, el, empty_state
from millpond.ui.endpoint.overview import LONGEST_SHOWN
from millpond.ui.endpoint.view import EndpointTab, View

_EVENTS = (
    TableColumn(label="When"),
    TableColumn(label="Served entity"),
    TableColumn(label="What"),
    TableColumn(label="Message", grow=True),
)


@dataclass(frozen=True, kw_only=True)
class _Logs:
    entity: str
    """Whose are shown."""
    entities: Sequence[str]
    output: str
    build: str


def _load_logs(view: View) -> _Logs:
    configs = [config for config in (view.endpoint.active, view.endpoint.pending) if config]
    names = list(dict.fromkeys(entity.name for config in configs for entity in config.entities))
    asked = view.visit.query.get("entity", "")
    entity = asked if asked in names else names[0]
    principal, name, serving = view.visit.principal, view.endpoint.name, view.visit.services.serving
    return _Logs(
        entity=entity,
        entities=names,
        output=serving.read_logs(principal, name, entity),
        build=serving.read_build_log(principal, name, entity),
    )


def _draw_logs(_view: View, logs: _Logs) -> None:
    with el("div", cls="mp-stack"):
        if len(logs.entities) > 1:
            with el("form", cls="mp-row", method="get", aria_label="Whose logs"):
                el("input", type="hidden", name="tab", value="logs")
                choices = [(each, each) for each in logs.entities]
                SelectField(label="Served entity", choices=choices, value=logs.entity, name="entity")
                with el("button", cls="mp-button", type="submit"):
                    el("span", "Show")
        output = logs.output or "It has printed nothing."
        code_block(output[-LONGEST_SHOWN:], title=f"What the processes of {logs.entity} print").classes("mp-trace")
        code_block(logs.build[-LONGEST_SHOWN:], title="How it was loaded").classes("mp-trace")


def _load_events(view: View) -> Sequence[Event]:
    return view.visit.services.endpoint_options.list_events(view.visit.principal, view.endpoint.name, limit=200)


def _draw_events(_view: View, events: Sequence[Event]) -> None:
    if not events:
        empty_state("Nothing has happened yet", "Updates, moves and restarts are told here.", symbol="history")
        return
    with card("Events"):
        rows: Rows = [[Cell(time_ms=epoch_ms(each.at)), each.entity, each.kind, each.message[:600]] for each in events]
        DataTable(label="Events", columns=_EVENTS, rows=rows)


LOGS = EndpointTab(
    key="logs", label="Logs", load=_load_logs, draw=_draw_logs,
    shown=lambda view: view.may_manage and view.config is not None,
)  # fmt: skip
EVENTS = EndpointTab(key="events", label="Events", load=_load_events, draw=_draw_events)
