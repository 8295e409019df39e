"""What is found for a text."""

from millpond.ui.elements import Cell, DataTable, Rows, TableColumn, empty_state, page_header
from millpond.ui.search import Hit, search
from millpond.ui.visit import Page, Visit


def _load(visit: Visit) -> tuple[Hit, ...]:
    return search(visit.services, visit.principal, visit.query.get("q", "")[:200], limit=100)


def _draw(visit: Visit, hits: tuple[Hit, ...]) -> None:
    text = visit.query.get("q", "")
    page_header(f"Results for “{text}”" if text else "Search", symbol="search")
    if not hits:
        empty_state(
            "Nothing found" if text else "Type a name above",
            "Search finds tables, volumes, functions, models, experiments and endpoints by their names.",
            symbol="search_off" if text else "search",
        )
        return
    rows: Rows = [[Cell(text=hit.name, href=hit.href, symbol=hit.symbol), hit.kind.capitalize()] for hit in hits]
    columns = (TableColumn(label="Name", grow=True), TableColumn(label="Kind"))
    DataTable(label="Results", columns=columns, rows=rows)


PAGES = (Page(path="/search", section="search", load=_load, draw=_draw, title=lambda _visit, _hits: "Search"),)
