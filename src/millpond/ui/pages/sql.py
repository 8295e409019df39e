"""SQL: an editor with its result as a grid or a chart, saved queries, and the history of what ran.

The address says which statement or saved query is shown, where names are looked up, and how the result is drawn.
"""

from dataclasses import dataclass, replace
from typing import Any

from nicegui import ui

from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as ListPage
from millpond.sql.domain import (
    STARTER_ID,
    Disposition,
    Format,
    HistoryFilter,
    QueryDraft,
    SavedQuery,
    Statement,
    StatementRequest,
    StatementState,
    Warehouse,
)
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    TextField,
    Tone,
    badge,
    button,
    button_link,
    card,
    code_block,
    el,
    empty_state,
    filter_form,
    notice,
    page_header,
    pager,
    tabs,
)
from millpond.ui.formats import duration_text
from millpond.ui.grid import GridRows, draw_grid, fill_grid, grid_rows
from millpond.ui.sql_chart import KINDS, chart_options, chosen
from millpond.ui.sql_completion import Home, SqlCompletion
from millpond.ui.theme import CHART_COLOURS
from millpond.ui.visit import Page, Visit

SHOWN_ROWS = 1000
MOST_ROWS = 100_000
"""A result on this page is cut here; clients have no such limit."""
_SCHEMAS = 200
_POLL_S = 1.0
_STATES: dict[StatementState, tuple[str, Tone]] = {
    StatementState.PENDING: ("waiting", "info"),
    StatementState.RUNNING: ("running", "info"),
    StatementState.SUCCEEDED: ("succeeded", "good"),
    StatementState.CLOSED: ("succeeded", "good"),
    StatementState.FAILED: ("failed", "bad"),
    StatementState.CANCELED: ("cancelled", "warn"),
}


@dataclass(frozen=True, kw_only=True)
class _Data:
    warehouses: tuple[Warehouse, ...] = ()
    homes: tuple[Home, ...] = ()
    statement: Statement | None = None
    saved: SavedQuery | None = None
    queries: ListPage[SavedQuery] | None = None
    history: ListPage[Statement] | None = None

    @property
    def text(self) -> str:
        """What the editor begins with."""
        if self.statement is not None:
            return self.statement.text
        return self.saved.draft.text if self.saved is not None else ""


def _load(visit: Visit) -> _Data:
    room, query, principal = visit.services.sql, visit.query, visit.principal
    if query.get("tab") == "queries":
        return _Data(queries=room.queries.list_page(principal, max_results=100, page_token=query.get("page")))
    if query.get("tab") == "history":
        wanted = _history_filter(query.get("state", ""))
        return _Data(history=room.queries.history(principal, wanted, max_results=100, page_token=query.get("page")))
    return _Data(
        warehouses=room.warehouses.list_all(principal),
        homes=_homes(visit),
        statement=room.statements.get(principal, query["statement"]) if query.get("statement") else None,
        saved=room.queries.get(principal, query["query"]) if query.get("query") else None,
    )


def _homes(visit: Visit) -> tuple[Home, ...]:
    """The schemas that one can choose, `main.default` first."""
    catalog, found = visit.services.catalog, []
    for one in catalog.list_catalogs(visit.principal, max_results=_SCHEMAS).items:
        listed = catalog.list_schemas(visit.principal, one.name, max_results=_SCHEMAS).items
        found += [Home(catalog=one.name, schema=schema.name.schema) for schema in listed]
    first = Home(catalog="main", schema="default")
    return (first, *(home for home in found if home != first))[:_SCHEMAS]


def _draw(visit: Visit, data: _Data) -> None:
    page_header("SQL", symbol="terminal", subtitle="Ask the catalog's tables, as you.")
    active = visit.query.get("tab", "editor")
    items = [
        Tab(key="editor", label="Editor", href=urls.SQL),
        Tab(key="queries", label="Saved queries", href=f"{urls.SQL}?tab=queries"),
        Tab(key="history", label="History", href=f"{urls.SQL}?tab=history"),
        Tab(key="alerts", label="Alerts", href=urls.ALERTS),
        Tab(key="warehouses", label="Warehouses", href=urls.WAREHOUSES),
    ]
    tabs(items, active, label="SQL")
    if data.queries is not None:
        _draw_queries(visit, data.queries)
    elif data.history is not None:
        _draw_history(visit, data.history)
    else:
        _Editor(visit, data).draw()


# The editor


class _Editor:
    """The editor and the result below it, on one open page."""

    def __init__(self, visit: Visit, data: _Data) -> None:
        self._visit = visit
        self._data = data
        self._statements = visit.services.sql.statements
        self._running: str | None = None
        asked = visit.query.get("in", "")
        chosen_home = next((home for home in data.homes if f"{home.catalog}.{home.schema}" == asked), data.homes[0])
        self._home = [chosen_home]

    def draw(self) -> None:
        with el("div", cls="mp-stack"):
            self._draw_editor()
            self._result = _Result(self._visit)
        statement = self._data.statement
        if statement is not None:
            ui.timer(0.01, lambda: self._follow(statement.id), once=True)

    def _draw_editor(self) -> None:
        visit, data = self._visit, self._data
        with card(cls="mp-sql"):
            with el("div", cls="mp-row mp-sql-bar"):
                self._run_button = button("Run", self.run, kind="mp-primary", symbol="play_arrow", title="Ctrl+Enter")
                self._cancel_button = button("Cancel", self.cancel, symbol="stop")
                self._cancel_button.props["disabled"] = True
                self._warehouse = SelectField(
                    label="Warehouse",
                    choices=[(one.id, one.spec.name) for one in data.warehouses],
                    value=visit.query.get("warehouse", STARTER_ID),
                )
                names = [f"{home.catalog}.{home.schema}" for home in data.homes]
                home = self._home[0]
                self._schema = SelectField(
                    label="Catalog and schema", choices=[(name, name) for name in names],
                    value=f"{home.catalog}.{home.schema}",
                )  # fmt: skip
                self._schema.element.on("change", self._moved, args=[])
            self._text = ui.codemirror(
                data.text,
                language="SQL",
                theme="vscodeLight",
                keymap={"Mod-Enter": lambda _: self.run()},
            ).classes("mp-editor")
            self._text.props["aria-label"] = "SQL statement"
            SqlCompletion(visit, self._text, self._home)
            with el("div", cls="mp-row"):
                name = data.saved.draft.name if data.saved is not None else ""
                self._name = TextField(label="Name of the query", value=name, placeholder="Name, to save it under")
                self._name.element.classes("mp-sql-name")
                button("Save", self.save, symbol="save")
                if data.saved is not None:
                    button_link("Permissions", urls.query_page_url(data.saved.id) + "?tab=permissions", symbol="group")

    def _moved(self) -> None:
        catalog, _, schema = self._schema.value.partition(".")
        self._home[0] = Home(catalog=catalog, schema=schema)

    def _request(self) -> StatementRequest:
        home = self._home[0]
        return StatementRequest(
            text=self._text.value,
            warehouse_id=self._warehouse.value,
            catalog=home.catalog,
            schema=home.schema,
            row_limit=MOST_ROWS,
            disposition=Disposition.EXTERNAL_LINKS,
            format=Format.ARROW_STREAM,
            client="Millpond SQL page",
        )

    async def run(self) -> None:
        """Send what the editor holds, and follow it to its end."""
        if self._running is not None:
            return
        self._moved()
        request = self._request()
        outcome = await self._visit.act(lambda principal: self._statements.submit(principal, request))
        if outcome.value is None:
            self._result.show_error(outcome.error)
            return
        self._visit = replace(self._visit, query=self._address(outcome.value.id))
        ui.navigate.history.replace(self._visit.link())
        await self._follow(outcome.value.id)

    def _address(self, statement_id: str) -> dict[str, str]:
        home = self._home[0]
        kept = {key: value for key, value in self._visit.query.items() if key in {"view", "kind"}}
        return kept | {
            "statement": statement_id,
            "in": f"{home.catalog}.{home.schema}",
            "warehouse": self._warehouse.value,
        }

    async def _follow(self, statement_id: str) -> None:
        self._running = statement_id
        self._set_running(True)
        try:
            while True:
                outcome = await self._visit.act(lambda principal: self._statements.get(principal, statement_id))
                if outcome.value is None:
                    self._result.show_error(outcome.error)
                    return
                await self._result.show(self._visit, outcome.value)
                if outcome.value.state.is_final:
                    return
                await self._statements.wait(outcome.value, _POLL_S)
        finally:
            self._running = None
            self._set_running(False)

    def _set_running(self, running: bool) -> None:
        self._run_button.props["disabled"] = running
        self._cancel_button.props["disabled"] = not running

    async def cancel(self) -> None:
        """Cancel what runs."""
        statement_id = self._running
        if statement_id is not None:
            (await self._visit.act(lambda principal: self._statements.cancel(principal, statement_id))).notify_error()

    async def save(self) -> None:
        """Save the text under its name: over the query that was opened, or as a new one."""
        draft = QueryDraft(
            name=self._name.value or "New query",
            text=self._text.value,
            catalog=self._home[0].catalog,
            schema=self._home[0].schema,
            warehouse_id=self._warehouse.value,
        )
        outcome = await self._visit.act(lambda principal: self._saved(principal, draft), done="Saved.")
        outcome.notify_error()
        if outcome.value is not None:
            self._data = replace(self._data, saved=outcome.value)

    def _saved(self, principal: Principal, draft: QueryDraft) -> SavedQuery:
        service, saved = self._visit.services.sql.queries, self._data.saved
        if saved is None or saved.draft.name != draft.name:
            return service.create(principal, draft)
        return service.update(principal, saved.id, lambda before: replace(before, **_chosen_of(draft)))


def _chosen_of(draft: QueryDraft) -> dict[str, Any]:
    names = ("name", "text", "catalog", "schema", "warehouse_id")
    return {name: getattr(draft, name) for name in names}


# The result


class _Result:
    """What a statement gave, below the editor."""

    def __init__(self, visit: Visit) -> None:
        with el("section", cls="mp-card mp-sql-result", aria_label="Result") as self._place:
            self._head = el("div", cls="mp-row", role="status", aria_live="polite")
            self._body = el("div")
            with self._body:
                self._grid = draw_grid("Result") if visit.query.get("view") != "chart" else None

        self._place.set_visibility(False)

    def show_error(self, message: str) -> None:
        """Say why there is no result."""
        self._place.set_visibility(True)
        self._head.clear()
        self._hide_grid()
        with self._head:
            notice(message, "bad", role="alert")

    async def show(self, visit: Visit, statement: Statement) -> None:
        """Show a statement as it is now."""
        self._place.set_visibility(True)
        self._head.clear()
        with self._head:
            _draw_state(visit, statement)
        if statement.failure is not None:
            self._hide_grid()
            with self._head:
                code_block(statement.failure.message, title=statement.failure.code).classes("mp-error-text")
        elif statement.state is StatementState.SUCCEEDED and statement.manifest and statement.manifest.chunks:
            await self._show_rows(visit, statement)
        elif statement.state.is_final:
            self._hide_grid()

    async def _show_rows(self, visit: Visit, statement: Statement) -> None:
        outcome = await visit.act(
            lambda principal: grid_rows(
                visit.services.sql.statements.chunk(principal, statement.id, 0).slice(0, SHOWN_ROWS)
            )
        )
        if outcome.value is None:
            self.show_error(outcome.error)
        elif self._grid is not None:
            self._grid.set_visibility(True)
            fill_grid(self._grid, outcome.value)
        else:
            self._body.clear()
            with self._body:
                _draw_chart(visit, outcome.value)

    def _hide_grid(self) -> None:
        if self._grid is not None:
            self._grid.set_visibility(False)


def _draw_state(visit: Visit, statement: Statement) -> None:
    badge(*_STATES[statement.state])
    el("span", _summary(statement), cls="mp-note")
    if statement.state is StatementState.CLOSED:
        el("span", "The result is gone; run it again.", cls="mp-note")
    if statement.state is not StatementState.SUCCEEDED or not (statement.manifest and statement.manifest.chunks):
        return
    with el("nav", cls="mp-segments", aria_label="How the result is shown"):
        for key, label in (("table", "Table"), ("chart", "Chart")):
            current = visit.query.get("view", "table") == key
            href = visit.link(view=None if key == "table" else key, x=None, y=None, kind=None)
            el("a", label, href=href, aria_current="page" if current else None)
    button_link("Download CSV", urls.statement_csv_url(statement.id), symbol="download", download="")


def _summary(statement: Statement) -> str:
    parts = []
    manifest = statement.manifest
    if manifest is not None and manifest.columns:
        more = f"the first {manifest.rows:,} rows" if manifest.truncated else f"{manifest.rows:,} rows"
        parts.append(more if manifest.rows != 1 else "1 row")
        if manifest.rows > SHOWN_ROWS:
            parts.append(f"{SHOWN_ROWS:,} shown")
    if statement.ended_at is not None:
        parts.append(duration_text((statement.ended_at - statement.submitted_at).total_seconds() * 1000))
    return " · ".join(parts)


def _draw_chart(visit: Visit, rows: GridRows) -> None:
    chart = chosen(rows, visit.query)
    with el("form", cls="mp-row", method="get"):
        for key in ("statement", "in", "warehouse", "view"):
            if visit.query.get(key):
                el("input", type="hidden", name=key, value=visit.query[key])
        columns = [(str(index), name) for index, name in enumerate(rows.names)]
        SelectField(label="Kind of chart", choices=list(KINDS.items()), value=chart.kind, name="kind")
        SelectField(label="Across", choices=columns, value=str(chart.x), name="x")
        SelectField(label="Up", choices=columns, value=str(chart.y), name="y")
        el("button", "Draw", cls="mp-button", type="submit")
    options = chart_options(rows, chart, CHART_COLOURS[visit.theme])
    drawn = ui.echart(options).classes("mp-chart")
    drawn.props["role"] = "img"
    drawn.props["aria-label"] = f"{rows.names[chart.y]} by {rows.names[chart.x]}"


# Saved queries and history


def _draw_queries(visit: Visit, page: ListPage[SavedQuery]) -> None:
    wanted = visit.query.get("q", "").casefold()
    found = [query for query in page.items if wanted in query.draft.name.casefold()]
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter by name", value=visit.query.get("q", ""), keep=[("tab", "queries")])
    if not found:
        empty_state("No saved queries", "Write one in the editor, name it and save it.", symbol="bookmark")
        return
    rows: Rows = [
        [
            Cell(text=query.draft.name, href=urls.saved_query_url(query.id), symbol="bookmark"),
            Cell(text=query.draft.text[:200], code=True),
            query.owner,
            Cell(time_ms=epoch_ms(query.updated_at)),
        ]
        for query in found
    ]
    columns = (
        TableColumn(label="Query"),
        TableColumn(label="Text", grow=True, optional=True),
        TableColumn(label="Owner", short=True),
        TableColumn(label="Changed"),
    )
    DataTable(label="Saved queries", columns=columns, rows=rows)
    _draw_pager(visit, page.next_page_token)


_HISTORY_STATES = {
    "failed": (StatementState.FAILED,),
    "running": (StatementState.PENDING, StatementState.RUNNING),
    "cancelled": (StatementState.CANCELED,),
}


def _history_filter(state: str) -> HistoryFilter:
    return HistoryFilter(states=_HISTORY_STATES.get(state, ()))


def _draw_history(visit: Visit, page: ListPage[Statement]) -> None:
    with el("div", cls="mp-toolbar"), el("nav", cls="mp-segments", aria_label="State"):
        for key in ("", *_HISTORY_STATES):
            current = visit.query.get("state", "") == key
            href = visit.link(state=key or None, page=None)
            el("a", key.capitalize() or "All", href=href, aria_current="page" if current else None)
    if not page.items:
        empty_state("Nothing ran", "Statements of the last days are listed here.", symbol="history")
        return
    rows: Rows = [
        [
            Cell(text=statement.text.strip()[:200], href=_statement_href(visit, statement)),
            Cell(badges=(_STATES[statement.state],)),
            Cell(text=_summary(statement)),
            statement.principal_name,
            Cell(time_ms=epoch_ms(statement.submitted_at)),
        ]
        for statement in page.items
    ]
    columns = (
        TableColumn(label="Statement", grow=True),
        TableColumn(label="State"),
        TableColumn(label="Result", optional=True),
        TableColumn(label="Who", short=True, optional=True),
        TableColumn(label="When"),
    )
    DataTable(label="History", columns=columns, rows=rows)
    _draw_pager(visit, page.next_page_token)


def _statement_href(visit: Visit, statement: Statement) -> str | None:
    """The statement in the editor; none for who only sees that somebody else ran it."""
    may_open = allows(visit.principal, Act.SEE, statement.securable(visit.principal))
    return urls.statement_url(statement.id) if may_open else None


def _draw_pager(visit: Visit, token: str | None) -> None:
    pager(
        next_href=visit.link(page=token) if token else None,
        first_href=visit.link(page=None) if visit.query.get("page") else None,
    )


PAGES = (Page(path="/sql", section="sql", load=_load, draw=_draw, title=lambda _visit, _data: "SQL"),)
