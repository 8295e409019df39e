"""Serving endpoints: the list, and the page of one, whose tabs are in `ui/endpoint/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import NotFound
from millpond.serving.domain import Endpoint, Update
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    Tone,
    badge,
    copy_button,
    el,
    empty_state,
    filter_form,
    move_on,
    page_header,
    tabs,
)
from millpond.ui.endpoint.asking import CODE, REQUESTS, TRY
from millpond.ui.endpoint.logs import EVENTS, LOGS
from millpond.ui.endpoint.metrics import METRICS
from millpond.ui.endpoint.overview import OVERVIEW
from millpond.ui.endpoint.replays import REPLAYS
from millpond.ui.endpoint.rollout import ROLLOUT
from millpond.ui.endpoint.view import EndpointTab, Tabs, View, model_words
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.visit import Page, Visit

_POLL_S = 2.0
_TABS: Tabs = (OVERVIEW, METRICS, ROLLOUT, REPLAYS, REQUESTS, TRY, CODE, LOGS, EVENTS)
_COLUMNS = (
    TableColumn(label="Endpoint"),
    TableColumn(label="State"),
    TableColumn(label="Serves", grow=True),
    TableColumn(label="Owner", short=True, optional=True),
    TableColumn(label="Changed", optional=True),
)
_CREATE = """from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput

w = WorkspaceClient()
w.serving_endpoints.create_and_wait(
    "churn-predictor",
    EndpointCoreConfigInput(served_entities=[
        ServedEntityInput(entity_name="main.default.churn_predictor", entity_version="1",
                          workload_size="Small", scale_to_zero_enabled=False),
    ]),
)"""


def state_of(endpoint: Endpoint) -> tuple[str, Tone]:
    """An endpoint's state in a word."""
    if endpoint.update is Update.IN_PROGRESS:
        return ("updating", "info") if endpoint.ready else ("starting", "info")
    if endpoint.update is Update.FAILED:
        return ("ready, update failed", "warn") if endpoint.ready else ("failed", "bad")
    return ("ready", "good") if endpoint.ready else ("not ready", "warn")


# The list


def _load_list(visit: Visit) -> Sequence[Endpoint]:
    wanted = visit.query.get("q", "").casefold()
    endpoints = visit.services.serving.list_endpoints(visit.principal)
    return [endpoint for endpoint in endpoints if wanted in endpoint.name.casefold()]


def _draw_list(visit: Visit, endpoints: Sequence[Endpoint]) -> None:
    page_header("Serving", symbol="cloud_queue", subtitle="Models behind a REST address.")
    asked = visit.query.get("q", "")
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter by name", value=asked)
    if not endpoints:
        if asked:
            empty_state(
                "No such endpoint", f"No endpoint that you may see has “{asked}” in its name.", symbol="search_off"
            )
        else:
            empty_state("No endpoints yet", "Serve a registered model:", symbol="cloud_queue", code=_CREATE)
        return
    rows: Rows = [
        [
            Cell(text=item.name, href=urls.endpoint_url(item.name), symbol="cloud_queue", note=item.description[:160]),
            Cell(badges=(state_of(item),)),
            Cell(text="\n".join(_served(item))),
            item.creator,
            Cell(time_ms=epoch_ms(item.updated_at)),
        ]
        for item in endpoints
    ]
    DataTable(label="Endpoints", columns=_COLUMNS, rows=rows)


def _served(endpoint: Endpoint) -> list[str]:
    """What it serves, each with its share where there are several."""
    config = endpoint.active or endpoint.pending
    if config is None:
        return []
    shares = {route.entity: route.percent for route in config.routes}
    several = len(config.entities) > 1
    return [
        model_words(entity) + (f", {shares.get(entity.name, 0)} %" if several else "") for entity in config.entities
    ]


# One endpoint


@dataclass(frozen=True, kw_only=True)
class _Data:
    view: View
    tab: EndpointTab[Any] | None
    """None for the permissions."""
    loaded: Any
    permissions: Permissions | None


def _load(visit: Visit) -> _Data:
    view = View(visit=visit, endpoint=visit.services.serving.get_endpoint(visit.principal, visit.path["name"]))
    permissions = load_permissions(visit, "serving-endpoints", view.endpoint.id)
    if permissions is not None:
        return _Data(view=view, tab=None, loaded=None, permissions=permissions)
    asked = visit.query.get("tab", OVERVIEW.key)
    tab = next((each for each in _TABS if each.key == asked and each.shown(view)), None)
    if tab is None:
        raise NotFound(f"Endpoint '{view.endpoint.name}' has nothing to show you under '{asked[:40]}'.")
    return _Data(view=view, tab=tab, loaded=tab.load(view), permissions=None)


def _draw(visit: Visit, data: _Data) -> None:
    view, endpoint = data.view, data.view.endpoint
    page_header(
        endpoint.name,
        symbol="cloud_queue",
        crumbs=[Crumb(label="Serving", href=urls.SERVING)],
        subtitle=endpoint.description or None,
    )
    text, tone = state_of(endpoint)
    with el("div", cls="mp-row").style("margin-bottom: 14px"):
        badge(text, tone)
        el("code", view.url)
        copy_button(view.url, "Copy URL")
    shown = [each for each in _TABS if each.shown(view)]
    links = [Tab(key=each.key, label=each.label, href=_link(visit, each)) for each in shown]
    tabs([*links, permissions_tab(visit)], data.tab.key if data.tab else visit.query["tab"])
    if data.permissions is not None:
        draw_permissions(visit, data.permissions)
        return
    assert data.tab is not None, "else there are permissions"
    data.tab.draw(view, data.loaded)
    _follow(visit, endpoint)


def _link(visit: Visit, tab: EndpointTab[Any]) -> str:
    base = urls.endpoint_url(visit.path["name"])
    return base if tab is OVERVIEW else f"{base}?tab={tab.key}"


def _follow(visit: Visit, endpoint: Endpoint) -> None:
    """Reload the page when a state changes that is going to change."""
    if endpoint.update is not Update.IN_PROGRESS and endpoint.ready:
        return
    before = _states(endpoint)

    async def look() -> None:
        outcome = await visit.act(lambda principal: visit.services.serving.get_endpoint(principal, endpoint.name))
        if outcome.value is not None and _states(outcome.value) != before:
            timer.deactivate()
            move_on()

    timer = ui.timer(_POLL_S, look)


def _states(endpoint: Endpoint) -> list[Any]:
    configs = [config for config in (endpoint.active, endpoint.pending) if config]
    return [endpoint.update, [(c.version, e.name, e.state.deployment) for c in configs for e in c.entities]]


PAGES = (
    Page(path="/serving", section="serving", load=_load_list, draw=_draw_list, title=lambda _visit, _data: "Serving"),
    Page(
        path="/serving/{name}",
        section="serving",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.view.endpoint.name,
    ),
)
