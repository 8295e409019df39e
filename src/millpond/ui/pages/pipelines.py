"""Pipelines: what there is, how each stands, and how its last updates ended."""

from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as Listing
from millpond.pipelines.domain import Shown
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    TableColumn,
    el,
    empty_state,
    filter_form,
    page_header,
    pager,
)
from millpond.ui.pipeline_states import look_of_pipeline, look_of_update
from millpond.ui.visit import Page, Visit

_PAGE = 50
_CREATE = """from databricks.sdk import WorkspaceClient
from databricks.sdk.service.pipelines import FileLibrary, PipelineLibrary

w = WorkspaceClient()
made = w.pipelines.create(
    name="orders",
    catalog="main",
    schema="silver",
    libraries=[PipelineLibrary(file=FileLibrary("/Users/ann@example.com/orders.py"))],
)
w.pipelines.start_update(made.pipeline_id)"""


def _load(visit: Visit) -> Listing[Shown]:
    return visit.services.pipelines.views.pipelines(
        visit.principal, text=visit.query.get("q", "").strip()[:200], page_token=visit.query.get("page"), limit=_PAGE
    )


def _draw(visit: Visit, page: Listing[Shown]) -> None:
    page_header("Pipelines", symbol="water", subtitle="Tables that say what they are made of, kept up to date.")
    asked = visit.query.get("q", "")
    if asked or page.items:
        with el("div", cls="mp-toolbar"):
            filter_form(label="Filter by name", value=asked)
    if page.items:
        _draw_list(page.items)
    elif asked:
        empty_state("No such pipeline", f"None that you may see has “{asked}” in its name.", symbol="search_off")
    else:
        empty_state("No pipelines yet", "Make one from Python:", symbol="water", code=_CREATE)
    pager(
        next_href=visit.link(page=page.next_page_token) if page.next_page_token else None,
        first_href=visit.link(page=None) if visit.query.get("page") else None,
    )


def _draw_list(pipelines: tuple[Shown, ...]) -> None:
    rows: Rows = [_row(each) for each in pipelines]
    columns = (
        TableColumn(label="Pipeline", grow=True),
        TableColumn(label="State"),
        TableColumn(label="Last updates"),
        TableColumn(label="Runs", optional=True),
        TableColumn(label="Publishes to", optional=True),
        TableColumn(label="Owner", short=True, optional=True),
    )
    DataTable(label="Pipelines", columns=columns, rows=rows)


def _row(shown: Shown) -> list[Cell | str]:
    pipeline = shown.pipeline
    tags = pipeline.settings.get("tags") or {}
    squares = tuple(
        (look_of_update(each)[1], look_of_update(each)[0], urls.pipeline_url(pipeline.id, each.id),
         epoch_ms(each.created_at))
        for each in reversed(shown.latest)
    )  # fmt: skip
    return [
        Cell(
            text=pipeline.name,
            href=urls.pipeline_url(pipeline.id),
            badges=tuple((f"{key}: {value}" if value else key, "plain") for key, value in tags.items()),
        ),
        Cell(badges=(look_of_pipeline(shown),)),
        Cell(squares=squares),
        "always" if pipeline.is_continuous else "when started",
        f"{pipeline.catalog}.{pipeline.schema}",
        pipeline.creator,
    ]


PAGES = (Page(path="/pipelines", section="pipelines", load=_load, draw=_draw, title=lambda _visit, _data: "Pipelines"),)
