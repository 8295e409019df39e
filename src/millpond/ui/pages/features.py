"""Feature tables: found by what is said of them, how fresh they are, where they are online, and who uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from millpond.feature_tables.domain import FeatureTable
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as Listing
from millpond.online.delta_log import News
from millpond.online.service import Seen
from millpond.ui import urls
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
from millpond.ui.features import TAB, used_by
from millpond.ui.filters import filter_form, wanted_of
from millpond.ui.forms import labelled
from millpond.ui.online import STATE_TONES, behind_text, news_of
from millpond.ui.services import Services
from millpond.ui.tags import mark_badges, tag_badges
from millpond.ui.visit import Outcome, Page, Visit, filling, later

_PAGE = 50
_UNUSED = "no"
_USE = (("", "Any"), (_UNUSED, "Used by nobody"))
_COMMENT_SHOWN = 240
_CREATE = """from millpond.features import FeatureEngineeringClient

fe = FeatureEngineeringClient()
fe.create_table(
    name="main.default.spending",
    primary_keys=["customer_id", "ts"],
    timeseries_columns="ts",
    df=spending,
    description="What customers spent in the 30 days before",
)"""


@dataclass(frozen=True, kw_only=True)
class _Logs:
    """What Delta logs say, which is asked when the page is there already."""

    written: Mapping[str, datetime] = field(default_factory=dict)
    news: Mapping[str, News | None] = field(default_factory=dict)
    """By the id of an online table."""


def _load(visit: Visit) -> Listing[FeatureTable]:
    query = visit.query
    return visit.services.feature_tables.service.list(
        visit.principal,
        wanted_of(query),
        unused=query.get("used") == _UNUSED,
        max_results=_PAGE,
        page_token=query.get("page"),
    )


def _draw(visit: Visit, found: Listing[FeatureTable]) -> None:
    page_header("Features", symbol="dataset", subtitle="Tables with a primary key, whose columns models are made of.")
    with el("div", cls="mp-stack"):
        if found.items or any(visit.query.values()):
            _draw_filters(visit)
        if found.items:
            _draw_tables(visit, found)
        elif any(visit.query.values()):
            empty_state(
                "No such features",
                "Each word must stand in the name, a column, the comment, a tag or the owner of a feature table that "
                "you may see.",
                symbol="search_off",
            )
        else:
            empty_state(
                "No feature tables yet",
                "Any Delta table becomes one by its primary key. Make one from a data frame:",
                symbol="dataset",
                code=_CREATE,
            )


def _draw_filters(visit: Visit) -> None:
    query = visit.query
    what = "name, column, comment"
    with filter_form(query, label="Find features", verb="Find", url=urls.FEATURES, hint=what), labelled("Use"):
        SelectField(label="Use", choices=_USE, value=query.get("used", ""), name="used")


def _draw_tables(visit: Visit, found: Listing[FeatureTable]) -> None:
    place = el("div")
    with place:
        _draw_rows(found.items, _Logs())
    later(
        visit,
        lambda who: _read_logs(visit.services, who, found.items),
        filling(place, lambda outcome: _fill(found.items, outcome)),
    )
    token = found.next_page_token
    pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


def _read_logs(services: Services, who: Principal, found: Sequence[FeatureTable]) -> _Logs:
    online = [Seen(table=each, source=of.table) for of in found for each in of.online]
    return _Logs(
        written=services.tables.last_written(who, [each.table for each in found]),
        news={seen.table.id: news_of(services, seen) for seen in online},
    )


def _fill(found: Sequence[FeatureTable], outcome: Outcome[_Logs]) -> None:
    _draw_rows(found, outcome.value or _Logs())


def _draw_rows(found: Sequence[FeatureTable], logs: _Logs) -> None:
    columns = (
        TableColumn(label="Feature table", grow=True),
        TableColumn(label="Features", numeric=True, optional=True),
        TableColumn(label="Key", optional=True),
        TableColumn(label="Used by"),
        TableColumn(label="Written"),
        TableColumn(label="Online", optional=True),
        TableColumn(label="Owner", short=True, optional=True),
    )
    rows: Rows = [_row(each, logs) for each in found]
    DataTable(label="Feature tables", columns=columns, rows=rows)


def _row(found: FeatureTable, logs: _Logs) -> list[Cell | str]:
    table = found.table
    written = logs.written.get(table.id)
    return [
        Cell(
            text=str(table.name),
            href=urls.object_url("table", table.name, tab=TAB),
            symbol="dataset",
            note=" ".join((table.comment or "").split())[:_COMMENT_SHOWN],
            badges=(*mark_badges(found.certification), *tag_badges(found.tags.own)),
        ),
        f"{len(found.columns):,}",
        Cell(text=", ".join(found.keys), code=True, note=f"at {found.time}" if found.time else None),
        used_by(found.consumers),
        Cell(time_ms=epoch_ms(written)) if written else "",
        _online_cell(found, logs),
        table.owner,
    ]


def _online_cell(found: FeatureTable, logs: _Logs) -> Cell:
    """How the table's copies online are doing, and how far the last of them is behind."""
    states = sorted({table.state for table in found.online})
    behind = {behind_text(logs.news[table.id]) for table in found.online if table.id in logs.news}
    return Cell(
        badges=tuple((state.value.lower(), STATE_TONES[state]) for state in states),
        note="; ".join(sorted(behind)),
    )


PAGES = (Page(path="/features", section="features", load=_load, draw=_draw, title=lambda _visit, _found: "Features"),)
