"""SQL warehouses, and who may do what with them and with saved queries."""

from collections.abc import Sequence
from dataclasses import dataclass

from millpond.identity.access import Act, allows
from millpond.kernel.clock import epoch_ms
from millpond.sql.domain import SavedQuery, Warehouse, WarehouseState
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    Tone,
    button,
    button_link,
    el,
    facts,
    page_header,
    tabs,
)
from millpond.ui.forms import reloading
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.visit import Page, Visit

_CRUMBS = [Crumb(label="SQL", href=urls.SQL)]


def _badge(state: WarehouseState) -> tuple[str, Tone]:
    return state.value.lower(), "good" if state is WarehouseState.RUNNING else "plain"


# All warehouses


def _load_all(visit: Visit) -> Sequence[Warehouse]:
    return visit.services.sql.warehouses.list_all(visit.principal)


def _draw_all(_visit: Visit, warehouses: Sequence[Warehouse]) -> None:
    page_header("Warehouses", symbol="dns", crumbs=_CRUMBS, subtitle="Where statements wait and run, with limits.")
    rows: Rows = [
        [
            Cell(text=one.spec.name, href=urls.warehouse_url(one.id), symbol="dns"),
            Cell(badges=(_badge(one.state),)),
            one.spec.cluster_size,
            f"{one.spec.max_running}",
            one.creator,
        ]
        for one in warehouses
    ]
    columns = (
        TableColumn(label="Warehouse", grow=True),
        TableColumn(label="State"),
        TableColumn(label="Size"),
        TableColumn(label="At once", numeric=True),
        TableColumn(label="Owner", short=True),
    )
    DataTable(label="Warehouses", columns=columns, rows=rows)


# One warehouse


@dataclass(frozen=True, kw_only=True)
class _Warehouse:
    warehouse: Warehouse
    permissions: Permissions | None


def _load(visit: Visit) -> _Warehouse:
    warehouse = visit.services.sql.warehouses.get(visit.principal, visit.path["warehouse"])
    return _Warehouse(warehouse=warehouse, permissions=load_permissions(visit, "warehouses", warehouse.id))


def _draw(visit: Visit, data: _Warehouse) -> None:
    warehouse = data.warehouse
    crumbs = [*_CRUMBS, Crumb(label="Warehouses", href=urls.WAREHOUSES)]
    with page_header(warehouse.spec.name, symbol="dns", crumbs=crumbs, kind=_badge(warehouse.state)[0]):
        _draw_switch(visit, warehouse)
    details = Tab(key="details", label="Details", href=visit.link(tab=None))
    tabs([details, permissions_tab(visit)], visit.query.get("tab", "details"), label="Warehouse")
    if data.permissions is not None:
        draw_permissions(visit, data.permissions)
        return
    spec = warehouse.spec
    facts(
        [
            ("Id", Cell(text=warehouse.id, code=True)),
            ("Owner", warehouse.creator),
            ("Size", spec.cluster_size),
            ("Statements at once", str(spec.max_running)),
            ("Stops after", f"{spec.auto_stop_mins} idle minutes" if spec.auto_stop_mins else "never"),
            ("A statement may take", f"{spec.statement_timeout_s} s" if spec.statement_timeout_s else "any time"),
            ("Created", Cell(time_ms=epoch_ms(warehouse.created_at))),
        ]
    )


def _draw_switch(visit: Visit, warehouse: Warehouse) -> None:
    service = visit.services.sql.warehouses
    if warehouse.state is WarehouseState.RUNNING:
        if allows(visit.principal, Act.MANAGE, warehouse.securable):
            button("Stop", reloading(visit, lambda who: service.stop(who, warehouse.id)), symbol="stop")
    elif allows(visit.principal, Act.USE, warehouse.securable):
        button("Start", reloading(visit, lambda who: service.start(who, warehouse.id)), symbol="play_arrow")


# A saved query's permissions


@dataclass(frozen=True, kw_only=True)
class _Query:
    query: SavedQuery
    permissions: Permissions | None


def _load_query(visit: Visit) -> _Query:
    query = visit.services.sql.queries.get(visit.principal, visit.path["query"])
    return _Query(query=query, permissions=load_permissions(visit, "queries", query.id))


def _draw_query(visit: Visit, data: _Query) -> None:
    query, service = data.query, visit.services.sql.queries
    crumbs = [*_CRUMBS, Crumb(label="Saved queries", href=f"{urls.SQL}?tab=queries")]
    with page_header(query.draft.name, symbol="bookmark", crumbs=crumbs, subtitle=query.draft.description):
        button_link("Open in the editor", urls.saved_query_url(query.id), symbol="terminal")
        button_link("Alert", f"{urls.NEW_ALERT}?query={query.id}", symbol="notification_add")
    text = Tab(key="text", label="Text", href=visit.link(tab=None))
    tabs([text, permissions_tab(visit)], visit.query.get("tab", "text"), label="Query")
    if data.permissions is None:
        el("pre", query.draft.text, cls="mp-card mp-pre", tabindex="0")
        return
    give = lambda who, owner: service.update(who, query.id, lambda draft: draft, owner=owner)  # noqa: E731
    draw_permissions(visit, data.permissions, give=give)


PAGES = (
    Page(path="/sql/warehouses", section="sql", load=_load_all, draw=_draw_all, title=lambda _v, _d: "Warehouses"),
    Page(
        path="/sql/warehouses/{warehouse}",
        section="sql",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.warehouse.spec.name,
    ),
    Page(
        path="/sql/queries/{query}",
        section="sql",
        load=_load_query,
        draw=_draw_query,
        title=lambda _visit, data: data.query.draft.name,
    ),
)
