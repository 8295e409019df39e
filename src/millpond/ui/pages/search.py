"""What is found for a text, and filters to narrow it."""

from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as Listing
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    TableColumn,
    el,
    empty_state,
    page_header,
    pager,
)
from millpond.ui.filters import filter_form, wanted_of
from millpond.ui.forms import labelled
from millpond.ui.search import Hit, hit_of
from millpond.ui.tags import mark_badges, tag_badges
from millpond.ui.visit import Page, Visit

_PAGE = 50
_COMMENT_SHOWN = 240


def _load(visit: Visit) -> Listing[Hit]:
    query = visit.query
    found = visit.services.discovery.search(
        visit.principal, wanted_of(query), limit=_PAGE, page_token=query.get("page")
    )
    return found.map(hit_of)


def _draw(visit: Visit, hits: Listing[Hit]) -> None:
    text = visit.query.get("q", "")
    page_header(f"Results for “{text}”" if text else "Search", symbol="search")
    with el("div", cls="mp-stack"):
        _draw_filters(visit)
        if hits.items:
            _draw_hits(visit, hits)
        elif any(visit.query.values()):
            empty_state(
                "Nothing found",
                "Each word must stand in the name, the comment, a tag, a column or the owner of what you may see.",
                symbol="search_off",
            )
        else:
            empty_state(
                "Type something above",
                "Search finds tables by name, column or tag, and volumes, functions, models, experiments, endpoints.",
                symbol="search",
            )


def _draw_filters(visit: Visit) -> None:
    query = visit.query
    kinds = [("", "Everything"), *((kind, kind.capitalize()) for kind in visit.services.discovery.kinds)]
    with filter_form(query, label="Narrow the search", verb="Search", url="/search"), labelled("Type"):
        SelectField(label="Type", choices=kinds, value=query.get("type", ""), name="type")


def _draw_hits(visit: Visit, hits: Listing[Hit]) -> None:
    columns = (
        TableColumn(label="Name", grow=True),
        TableColumn(label="Kind"),
        TableColumn(label="Tags", optional=True),
        TableColumn(label="Owner", short=True, optional=True),
        TableColumn(label="Changed", optional=True),
    )
    rows: Rows = [_row(hit) for hit in hits.items]
    with el("div"):
        DataTable(label="Results", columns=columns, rows=rows)
        token = hits.next_page_token
        pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


def _row(hit: Hit) -> list[Cell | str]:
    found = hit.found
    told = [" ".join(found.comment.split())[:_COMMENT_SHOWN]]
    if found.columns:
        told.append(f"Columns: {', '.join(found.columns)}")
    return [
        Cell(
            text=hit.name,
            href=hit.href,
            symbol=hit.symbol,
            note="\n".join(filter(None, told)),
            badges=mark_badges(found.certification),
        ),
        hit.kind.capitalize(),
        Cell(badges=tag_badges(found.tags)),
        found.owner,
        Cell(time_ms=epoch_ms(found.updated_at)) if found.updated_at else "",
    ]


PAGES = (Page(path="/search", section="search", load=_load, draw=_draw, title=lambda _visit, _hits: "Search"),)
