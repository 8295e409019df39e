"""One pipeline: its datasets as an update left them, its updates, its events, its settings, and who may do what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.catalog.names import ObjectName
from millpond.jobs.domain import Need
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page as Listing
from millpond.pipelines.domain import Asked, Cause, Event, Level, Pipeline, Update
from millpond.pipelines.filters import WantedEvents
from millpond.pipelines.graph import Dataset, Graph, acyclic, rows_of
from millpond.pipelines.viewing import PipelineView
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Facts,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    badge,
    button,
    card,
    code_block,
    el,
    empty_state,
    facts,
    move_on,
    notice,
    page_header,
    pager,
    tabs,
)
from millpond.ui.formats import rows_text
from millpond.ui.forms import ask_first, labelled, reloading, submit
from millpond.ui.job_forms import as_yaml
from millpond.ui.job_graph import JobGraph, Node
from millpond.ui.job_states import took
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.pipeline_states import (
    asked_text,
    cause_text,
    kind_text,
    look_of_dataset,
    look_of_pipeline,
    look_of_update,
    tone_of,
)
from millpond.ui.visit import Page, Visit

_POLL_S = 1.0
_PAGE = 100
_UPDATES, _EVENTS, _SETTINGS = "updates", "events", "settings"
_LEVELS = (("", "Any"), *((level.value, level.value.lower()) for level in Level))


@dataclass(frozen=True, kw_only=True)
class _Data:
    view: PipelineView
    update: Update | None
    """That the graph shows: the one in the address, else the last."""
    graph: Graph
    updates: Listing[Update] | None
    events: tuple[list[Event], int | None] | None
    permissions: Permissions | None


def _load(visit: Visit) -> _Data:
    room, who, pipeline_id = visit.services.pipelines, visit.principal, visit.path["pipeline_id"]
    view = room.views.pipeline(who, pipeline_id)
    tab, asked, page = visit.query.get("tab", ""), visit.query.get("update"), visit.query.get("page")
    update = room.service.get_update(who, pipeline_id, asked)[1] if asked else next(iter(view.shown.latest), None)
    updates, events = None, None
    if tab == _UPDATES:
        updates = room.service.list_updates(who, pipeline_id, page_token=page, limit=_PAGE)
    elif tab == _EVENTS:
        events = room.service.events(who, pipeline_id, _wanted(visit), beyond=_place(page), limit=_PAGE)
    graph = Graph(datasets=()) if update is None or tab else room.views.graph(who, update)
    return _Data(
        view=view, update=update, graph=graph, updates=updates, events=events,
        permissions=load_permissions(visit, "pipelines", pipeline_id),
    )  # fmt: skip


def _wanted(visit: Visit) -> WantedEvents:
    level = visit.query.get("level", "")
    levels = frozenset({Level(level)}) if level in Level.__members__ else frozenset()
    return WantedEvents(levels=levels, update_id=visit.query.get("update") or None)


def _place(page: str | None) -> int | None:
    if page is not None and not (page.isascii() and page.isdecimal() and len(page) < 19):
        raise InvalidArgument("The page is a number; go back to the first one.")
    return int(page) if page else None


def _draw(visit: Visit, data: _Data) -> None:
    pipeline = data.view.shown.pipeline
    actions = page_header(pipeline.name, symbol="water", crumbs=[Crumb(label="Pipelines", href=urls.PIPELINES)])
    with actions:
        _draw_actions(visit, data.view)
    with el("div", cls="mp-row mp-tags").style("margin-top: -8px"):
        badge(*look_of_pipeline(data.view.shown))
        badge("always has an update" if pipeline.is_continuous else "updated when started", "info")
        for key, value in (pipeline.settings.get("tags") or {}).items():
            badge(f"{key}: {value}" if value else key)
    items = [
        Tab(key="", label="Datasets", href=visit.link(tab=None, page=None, level=None)),
        Tab(key=_UPDATES, label="Updates", href=visit.link(tab=_UPDATES, page=None, level=None, update=None)),
        Tab(key=_EVENTS, label="Events", href=visit.link(tab=_EVENTS, page=None, level=None)),
        Tab(key=_SETTINGS, label="Settings", href=visit.link(tab=_SETTINGS, page=None, level=None)),
        permissions_tab(visit),
    ]
    tabs(items, visit.query.get("tab", ""), label="Pipeline")
    if data.permissions is not None:
        draw_permissions(visit, data.permissions)
    elif data.updates is not None:
        _draw_updates(visit, data.updates)
    elif data.events is not None:
        with el("div", cls="mp-stack"):
            _draw_events(visit, pipeline, *data.events)
    elif visit.query.get("tab") == _SETTINGS:
        _draw_settings(pipeline)
    elif data.update is None:
        empty_state(
            "No update yet", "Start one: its datasets, what they are made of and their rows appear here.",
            symbol="water",
        )  # fmt: skip
    else:
        _draw_update(visit, data.view, data.update, data.graph)


def _draw_actions(visit: Visit, view: PipelineView) -> None:
    pipeline, service = view.shown.pipeline, visit.services.pipelines.service

    def start(asked: Asked) -> Any:
        return reloading(
            visit,
            lambda who: service.start_update(who, pipeline.id, asked, Cause.USER_ACTION),
            then=urls.pipeline_url(pipeline.id),
        )

    if view.may_run and view.shown.active is None:
        button("Start", start(Asked()), kind="mp-primary", symbol="play_arrow")
        button("Validate", start(Asked(validate_only=True)), symbol="rule")
        ask_first(
            "Full refresh", "Make all tables anew? What their sources do not hold any more is lost.",
            start(Asked(full_refresh=True)), symbol="restart_alt",
        )  # fmt: skip
    if view.may_run and (view.shown.active is not None or pipeline.next_start_at is not None):
        button("Stop", reloading(visit, lambda who: service.stop(who, pipeline.id)), symbol="stop")
    if view.may_manage:
        act = reloading(visit, lambda who: service.delete(who, pipeline.id), then=urls.PIPELINES)
        ask_first("Delete", "Delete the pipeline with its updates and events? Its tables stay.", act)


# An update and its datasets


def _draw_update(visit: Visit, view: PipelineView, update: Update, graph: Graph) -> None:
    place = el("div", cls="mp-stack")

    def redraw(now: Update, seen: Graph) -> None:
        place.clear()
        with place:
            words, tone = look_of_update(now)
            told = f"{words.capitalize()}." + (f" {now.message}" if now.message else "")
            notice(told, tone, role="status").classes("mp-run-state")
            if seen.datasets:
                JobGraph("Datasets and what each is made of", _nodes(view.shown.pipeline, seen))
                _draw_datasets(view.shown.pipeline, seen)
            _draw_about(now)

    redraw(update, graph)
    if not update.state.is_final:
        _follow(visit, update, redraw)


def _follow(visit: Visit, update: Update, redraw: Any) -> None:
    """Draw anew what changes while the update goes on; once it has ended, load the page again."""
    room = visit.services.pipelines
    seen: object = None

    async def look_again() -> None:
        nonlocal seen
        outcome = await visit.act(
            lambda who: (room.service.get_update(who, update.pipeline_id, update.id)[1], room.views.graph(who, update))
        )
        if outcome.value is None or outcome.value == seen:
            return
        seen = outcome.value
        now, graph = outcome.value
        if now.state.is_final:
            timer.deactivate()
            move_on()
            return
        redraw(now, graph)

    timer = ui.timer(_POLL_S, look_again)


def _draw_about(update: Update) -> None:
    shown: Facts = [
        ("Update", Cell(text=update.id, code=True)),
        ("Does", asked_text(update)),
        ("Started", Cell(time_ms=epoch_ms(update.created_at))),
        ("Took", took(update.created_at, update.ended_at)),
        ("Started by", f"{update.asked_by}, by {cause_text(update)}"),
        ("Runs as", update.run_as),
        ("Run", Cell(text=str(update.run_id), href=urls.job_run_url(update.run_id))),
    ]
    with card("This update"):
        facts(shown)


def _nodes(pipeline: Pipeline, graph: Graph) -> list[Node]:
    datasets = acyclic(graph.datasets)
    names = {each.name: _short(pipeline, each.name) for each in datasets}
    return [
        Node(
            key=names[each.name],
            needs=tuple(Need(key=names[need]) for need in each.needs if need in names),
            words=_words(each),
            tone=look_of_dataset(each)[1],
            href=_table_url(each) or urls.pipeline_url(pipeline.id),
        )
        for each in datasets
    ]


def _words(dataset: Dataset) -> str:
    if not dataset.defined:
        return kind_text(dataset)
    rows = rows_text(dataset.rows) if dataset.rows is not None else ""
    return ", ".join(filter(None, (look_of_dataset(dataset)[0], rows)))


def _short(pipeline: Pipeline, name: str) -> str:
    return name.removeprefix(f"{pipeline.catalog}.{pipeline.schema}.")


def _table_url(dataset: Dataset) -> str | None:
    parts = dataset.name.split(".")
    if len(parts) != 3 or "VIEW" in dataset.kind.replace("MATERIALIZED_VIEW", ""):
        return None
    try:
        return urls.object_url("table", ObjectName(*parts))
    except InvalidArgument:
        return None


def _draw_datasets(pipeline: Pipeline, graph: Graph) -> None:
    rows: Rows = [
        [
            Cell(text=_short(pipeline, each.name), href=_table_url(each), note=each.message[:300] or None),
            kind_text(each),
            Cell(badges=(look_of_dataset(each),)),
            "" if each.rows is None else f"{each.rows:,}",
            _expectations(each),
        ]
        for each in graph.made
    ]
    columns = (
        TableColumn(label="Dataset", grow=True),
        TableColumn(label="Kind", optional=True),
        TableColumn(label="State"),
        TableColumn(label="Rows written", numeric=True),
        TableColumn(label="Expectations"),
    )
    DataTable(label="Datasets", columns=columns, rows=rows)


def _expectations(dataset: Dataset) -> Cell:
    told = [
        (f"{each.name}: {each.failed:,} of {rows_text(each.passed + each.failed)} failed", "warn")
        if each.failed
        else (f"{each.name}: {each.passed:,} passed", "good")
        for each in dataset.expectations
    ]
    return Cell(badges=tuple(told), note=f"{rows_text(dataset.dropped)} dropped" if dataset.dropped else None)  # type: ignore[arg-type]  # literals of Tone


# Updates, events, settings


def _draw_updates(visit: Visit, updates: Listing[Update]) -> None:
    if not updates.items:
        empty_state("No update yet", "Start one; each appears here.", symbol="water")
        return
    rows: Rows = [
        [
            Cell(text=each.id[-8:], href=urls.pipeline_url(each.pipeline_id, each.id), title=each.id, code=True),
            Cell(badges=(look_of_update(each),), note=each.message[:200] or None),
            Cell(time_ms=epoch_ms(each.created_at)),
            took(each.created_at, each.ended_at),
            asked_text(each),
            f"{each.asked_by}, by {cause_text(each)}",
        ]
        for each in updates.items
    ]
    columns = (
        TableColumn(label="Update"),
        TableColumn(label="State", grow=True),
        TableColumn(label="Started"),
        TableColumn(label="Took", numeric=True, optional=True),
        TableColumn(label="Did", optional=True),
        TableColumn(label="Started by", optional=True),
    )
    DataTable(label="Updates", columns=columns, rows=rows)
    pager(
        next_href=updates.next_page_token and visit.link(page=updates.next_page_token),
        first_href=visit.query.get("page") and visit.link(page=None),
    )


def _draw_events(visit: Visit, pipeline: Pipeline, events: Sequence[Event], last: int | None) -> None:
    with el("form", cls="mp-row mp-form", method="get", role="search", aria_label="Find events"):
        el("input", type="hidden", name="tab", value=_EVENTS)
        if visit.query.get("update"):
            el("input", type="hidden", name="update", value=visit.query["update"])
        with labelled("Level"):
            SelectField(label="Level", choices=_LEVELS, value=visit.query.get("level", ""), name="level")
        submit("Find")
    if not events:
        empty_state("No such events", "Nothing was told, or nothing of this level.", symbol="search_off")
        return
    rows: Rows = [
        [
            Cell(time_ms=epoch_ms(each.at)),
            Cell(badges=((each.level.value.lower(), tone_of(each.level)),)),
            Cell(text=each.event_type.replace("_", " "), note=_short(pipeline, each.dataset) or None),
            Cell(text=each.message, note=_more(each)),
        ]
        for each in events
    ]
    columns = (
        TableColumn(label="When"),
        TableColumn(label="Level"),
        TableColumn(label="What", optional=True),
        TableColumn(label="Message", grow=True),
    )
    DataTable(label="Events", columns=columns, rows=rows)
    pager(
        next_href=None if last is None else visit.link(page=str(last)),
        first_href=visit.query.get("page") and visit.link(page=None),
    )


def _more(event: Event) -> str | None:
    told = event.body.get("error") or (event.details if event.level is Level.METRICS else None)
    rows = rows_of(event)
    if told or rows is None:
        return json.dumps(told, ensure_ascii=False)[:600] if told else None
    return f"{rows_text(rows)} written"


def _draw_settings(pipeline: Pipeline) -> None:
    settings = pipeline.settings
    shown: Facts = [
        ("Pipeline id", Cell(text=pipeline.id, code=True)),
        ("Owner", pipeline.creator),
        ("Runs as", pipeline.run_as),
        ("Publishes to", f"{pipeline.catalog}.{pipeline.schema}"),
        ("Created", Cell(time_ms=epoch_ms(pipeline.created_at))),
        ("Changed", Cell(time_ms=epoch_ms(pipeline.changed_at))),
        ("Mode", "development" if settings.get("development") else "production"),
    ]
    with el("div", cls="mp-stack"):
        with card("About"):
            facts(shown)
        code_block(as_yaml(settings), title="YAML").classes("mp-trace")
        code_block(json.dumps(settings, indent=2, ensure_ascii=False), title="JSON").classes("mp-trace")


PAGES = (
    Page(
        path="/pipelines/{pipeline_id}", section="pipelines", load=_load, draw=_draw,
        title=lambda _visit, data: data.view.shown.pipeline.name,
    ),
)  # fmt: skip
