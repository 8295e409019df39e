"""Alerts: all that one may see, and one with what it found, whom it told and who may do what with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from nicegui import ui

from millpond.identity.access import Act, allows
from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as Listing
from millpond.notifications.domain import Delivery
from millpond.sql.alerts.domain import Alert, AlertState, Evaluation, Schedule
from millpond.ui import urls
from millpond.ui.alert_chart import alert_options
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Facts,
    Rows,
    Tab,
    TableColumn,
    Tone,
    badge,
    button,
    button_link,
    card,
    code_block,
    el,
    empty_state,
    facts,
    filter_form,
    page_header,
    pager,
    tabs,
)
from millpond.ui.forms import ask_first, reloading
from millpond.ui.job_states import moment
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.theme import CHART_COLOURS
from millpond.ui.visit import Page, Visit

CRUMBS = [Crumb(label="SQL", href=urls.SQL)]
_PAGE = 50
_SHOWN = 200
_SETTINGS = "settings"
_LOOK_S = 0.3
_LOOKS = 200
_TONES: dict[AlertState | None, Tone] = {
    AlertState.OK: "good", AlertState.TRIGGERED: "bad", AlertState.ERROR: "warn", AlertState.UNKNOWN: "plain",
    None: "info",
}  # fmt: skip
_CAUSES = {"schedule": "By its schedule", "job": "By a job"}
_CREATE = """from databricks.sdk import WorkspaceClient
from databricks.sdk.service.sql import *

w = WorkspaceClient()
w.alerts_v2.create_alert(AlertV2(
    display_name="too many late orders",
    query_text="SELECT count(*) AS late FROM shop.gold.orders WHERE is_late",
    warehouse_id="starter",
    evaluation=AlertV2Evaluation(
        source=AlertV2OperandColumn(name="late"),
        comparison_operator=ComparisonOperator.GREATER_THAN,
        threshold=AlertV2Operand(value=AlertV2OperandValue(double_value=10)),
        notification=AlertV2Notification(subscriptions=[AlertV2Subscription(user_email="ann@example.com")]),
    ),
    schedule=CronSchedule(quartz_cron_schedule="0 0 6 * * ?", timezone_id="Europe/Vienna"),
))"""


def _badge(state: AlertState | None) -> tuple[str, Tone]:
    return (state.value.lower() if state else "under way"), _TONES[state]


def schedule_text(schedule: Schedule | None) -> str:
    """When it asks, in words."""
    if schedule is None:
        return "When it is asked to"
    return f"At {schedule.cron} ({schedule.timezone})" + (", paused" if schedule.paused else "")


# All


def _load_all(visit: Visit) -> Listing[Alert]:
    return visit.services.sql.alerts.list_page(
        visit.principal,
        text=visit.query.get("q", "").strip()[:200],
        max_results=_PAGE,
        page_token=visit.query.get("page"),
    )


def _draw_all(visit: Visit, page: Listing[Alert]) -> None:
    with page_header("Alerts", symbol="notifications", crumbs=CRUMBS, subtitle="Queries that tell when they find it."):
        button_link("New alert", urls.NEW_ALERT, symbol="add", kind="mp-primary")
    asked = visit.query.get("q", "")
    if asked or page.items:
        with el("div", cls="mp-toolbar"):
            filter_form(label="Filter by name", value=asked)
    if not page.items and asked:
        empty_state("No such alert", f"No alert that you may see has “{asked}” in its name.", symbol="search_off")
    elif not page.items:
        empty_state("No alerts yet", "Make one here, or from Python:", symbol="notifications", code=_CREATE)
    else:
        _draw_list(page.items)
    pager(
        next_href=visit.link(page=page.next_page_token) if page.next_page_token else None,
        first_href=visit.link(page=None) if visit.query.get("page") else None,
    )


def _draw_list(alerts: Sequence[Alert]) -> None:
    rows: Rows = [
        [
            Cell(text=alert.draft.name, href=urls.alert_url(alert.id), note=str(alert.draft.condition)[:160]),
            Cell(badges=(_badge(alert.state), *((("muted", "plain"),) if alert.draft.muted else ()))),
            moment(alert.evaluated_at),
            schedule_text(alert.draft.schedule),
            moment(alert.due_at),
            alert.owner,
        ]
        for alert in alerts
    ]
    columns = (
        TableColumn(label="Alert", grow=True),
        TableColumn(label="State"),
        TableColumn(label="Evaluated"),
        TableColumn(label="Asks", optional=True),
        TableColumn(label="Next", optional=True),
        TableColumn(label="Owner", short=True, optional=True),
    )
    DataTable(label="Alerts", columns=columns, rows=rows)


# One


@dataclass(frozen=True, kw_only=True)
class _Data:
    alert: Alert
    evaluations: Listing[Evaluation] | None
    told: Sequence[Delivery]
    query_name: str
    """Of a saved query that one may read."""
    permissions: Permissions | None


def _load(visit: Visit) -> _Data:
    room, who = visit.services.sql, visit.principal
    alert = room.alerts.get(who, visit.path["alert"])
    evaluations, told = None, []
    if not visit.query.get("tab"):
        evaluations = room.alerts.evaluations(who, alert.id, max_results=_SHOWN, page_token=visit.query.get("page"))
        told = room.alerts.told(who, alert.id)
    name = room.queries.find_name_of(who, alert.draft.query_id) if alert.draft.query_id else ""
    permissions = load_permissions(visit, "alerts", alert.id)
    return _Data(alert=alert, evaluations=evaluations, told=told, query_name=name, permissions=permissions)


def _draw(visit: Visit, data: _Data) -> None:
    alert = data.alert
    crumbs = [*CRUMBS, Crumb(label="Alerts", href=urls.ALERTS)]
    with page_header(alert.draft.name, symbol="notifications", crumbs=crumbs, subtitle=str(alert.draft.condition)):
        if alert.trashed:
            badge("in the trash", "warn")
        else:
            _draw_actions(visit, alert)
    with el("div", cls="mp-row mp-tags").style("margin-top: -8px"):
        badge(*_badge(alert.state))
        badge(schedule_text(alert.draft.schedule), "info")
    items = [
        Tab(key="", label="History", href=visit.link(tab=None, page=None)),
        Tab(key=_SETTINGS, label="Settings", href=visit.link(tab=_SETTINGS, page=None)),
        permissions_tab(visit),
    ]
    tabs(items, visit.query.get("tab", ""), label="Alert")
    if data.permissions is not None:
        service = visit.services.sql.alerts
        give = lambda who, owner: service.update(who, alert.id, lambda each: each.draft, owner=owner)  # noqa: E731
        draw_permissions(visit, data.permissions, give=give)
    elif data.evaluations is None:
        _draw_settings(data)
    else:
        _draw_history(visit, data, data.evaluations)


def _draw_actions(visit: Visit, alert: Alert) -> None:
    service = visit.services.sql.alerts
    if allows(visit.principal, Act.USE, alert.securable):

        async def evaluate() -> None:
            begun = (await visit.act(lambda who: service.run(who, alert.id))).notify_error()
            if begun.value is None:
                return
            run_button.props["disabled"] = True
            for _ in range(_LOOKS):
                await asyncio.sleep(_LOOK_S)
                seen = await visit.act(lambda who: service.evaluations(who, alert.id, max_results=1))
                if seen.value is None or all(each.ended_at for each in seen.value.items):
                    break
            ui.navigate.reload()

        run_button = button("Evaluate now", evaluate, kind="mp-primary", symbol="play_arrow")
    if allows(visit.principal, Act.WRITE, alert.securable):
        button_link("Edit", f"{urls.alert_url(alert.id)}/edit", symbol="edit")
    if allows(visit.principal, Act.MANAGE, alert.securable):
        act = reloading(visit, lambda who: service.trash(who, alert.id), then=urls.ALERTS)
        ask_first("Delete", "Put the alert into the trash?", act)


def _draw_history(visit: Visit, data: _Data, page: Listing[Evaluation]) -> None:
    if not page.items:
        empty_state("Not evaluated yet", "Evaluate it now, or give it a schedule.", symbol="notifications")
        return
    with el("div", cls="mp-stack"):
        options = alert_options(data.alert.draft.condition, page.items, CHART_COLOURS[visit.theme])
        if options is not None:
            with card():
                drawn = ui.echart(options).classes("mp-chart").style("height: 220px")
                drawn.props["role"] = "img"
                drawn.props["aria-label"] = f"{data.alert.draft.condition.source} over time"
        rows: Rows = [_evaluation_row(each) for each in page.items]
        columns = (
            TableColumn(label="When"),
            TableColumn(label="State"),
            TableColumn(label="Value", numeric=True),
            TableColumn(label="Told", numeric=True, optional=True),
            TableColumn(label="What", grow=True, optional=True),
            TableColumn(label="As", short=True, optional=True),
        )
        DataTable(label="Evaluations", columns=columns, rows=rows)
        pager(
            next_href=visit.link(page=page.next_page_token) if page.next_page_token else None,
            first_href=visit.link(page=None) if visit.query.get("page") else None,
        )
        if data.told:
            _draw_told(data.told)


def _evaluation_row(each: Evaluation) -> list[Cell | str]:
    return [
        Cell(time_ms=epoch_ms(each.started_at)),
        Cell(badges=(_badge(each.state),)),
        each.value[:80],
        str(each.told or ""),
        Cell(
            text={"schedule": "By its schedule", "job": "By a job"}.get(each.cause, "By hand"), note=each.message[:300]
        ),
        each.run_as,
    ]


def _draw_told(told: Sequence[Delivery]) -> None:
    tones: dict[str, Tone] = {"delivered": "good", "failed": "bad"}
    rows: Rows = [
        [
            Cell(time_ms=epoch_ms(each.created_at)),
            each.target,
            each.event.removeprefix("alert."),
            Cell(badges=((each.state, tones.get(each.state, "info")),), note=each.error[:200]),
        ]
        for each in told
    ]
    columns = (
        TableColumn(label="Message"),
        TableColumn(label="To", grow=True),
        TableColumn(label="Says"),
        TableColumn(label="State"),
    )
    DataTable(label="Messages", columns=columns, rows=rows)


def _draw_settings(data: _Data) -> None:
    alert, draft = data.alert, data.alert.draft
    warehouse = draft.warehouse_id or "the query's own"
    query = Cell(text=data.query_name or "one that you may not read")
    if data.query_name and draft.query_id:
        query = Cell(text=data.query_name, href=urls.saved_query_url(draft.query_id))
    shown: Facts = [
        ("Alert id", Cell(text=alert.id, code=True)),
        ("Owner", alert.owner),
        ("Asks as", alert.run_as),
        ("Asks", schedule_text(draft.schedule)),
        ("Next", Cell(time_ms=epoch_ms(alert.due_at)) if alert.due_at else None),
        ("Warehouse", Cell(text=warehouse)),
        ("Saved query", query if draft.query_id else None),
        ("Condition", str(draft.condition)),
        ("Without rows", draft.condition.empty_state.value.lower()),
        ("Came to be triggered", Cell(time_ms=epoch_ms(alert.triggered_at)) if alert.triggered_at else None),
    ]
    told: Facts = [
        ("Tells", ", ".join(map(str, draft.subscriptions)) or "nobody"),
        ("Tells again", f"after {draft.retrigger_s} s while it is triggered" if draft.retrigger_s else "never"),
        ("Tells of OK", "yes" if draft.notify_on_ok else "no"),
        ("Muted", "yes" if draft.muted else None),
        ("Its own subject", draft.subject),
    ]
    with el("div", cls="mp-stack"):
        with el("div", cls="mp-grid-cards"):
            with card("About"):
                facts(shown)
            with card("Messages"):
                facts(told)
        if draft.query_text:
            code_block(draft.query_text, title="SQL")
        if draft.body:
            code_block(draft.body, title="Its own message")


PAGES = (
    Page(path="/sql/alerts", section="sql", load=_load_all, draw=_draw_all, title=lambda _visit, _data: "Alerts"),
    Page(
        path="/sql/alerts/{alert}",
        section="sql",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.alert.draft.name,
    ),
)
