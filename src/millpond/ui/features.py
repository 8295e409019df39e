"""The tab of a table with a primary key: its features, what they come from, who uses them, and what they are like."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.catalog.domain import ObjectName, Table
from millpond.feature_tables.domain import (
    Consumers,
    Feature,
    FeaturesOfTable,
    ModelFeatures,
    is_feature_table,
)
from millpond.kernel.clock import epoch_ms
from millpond.lineage.domain import NodeKind
from millpond.lineage.uses import Consumer
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    badge,
    button_link,
    card,
    el,
    empty_state,
    facts,
    filter_form,
    link,
    notice,
    pager,
)
from millpond.ui.feature_statistics import draw_distribution, draw_statistics
from millpond.ui.lineage import node_cell
from millpond.ui.online import TAB as ONLINE
from millpond.ui.tags import tag_badges
from millpond.ui.visit import Visit

TAB = "features"
_PAGE = 50
_SHOWN = 4
"""Names in one cell."""
_MOST = 200
"""Consumers in one list."""
_CUT = "There are more runs and models than were looked at here; they used the table longer ago."


def features_tab(visit: Visit, table: Table) -> list[Tab]:
    """The tab itself, where the table is a feature table."""
    if not is_feature_table(table):
        return []
    return [Tab(key=TAB, label="Features", href=visit.link(tab=TAB, q=None, page=None))]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the tab shows."""

    found: FeaturesOfTable
    written: datetime | None
    """When the table was last written; None for who may not read it."""


def load_features(visit: Visit, table: Table) -> Features | None:
    """What the tab needs, when it is the open one."""
    if visit.query.get("tab") != TAB or not is_feature_table(table):
        return None
    written = visit.services.tables.last_written(visit.principal, [table])
    found = visit.services.feature_tables.service.get(visit.principal, table.name)
    return Features(found=found, written=written.get(table.id))


def draw_features(visit: Visit, data: Features) -> None:
    """Draw the tab: all features, or the one that the address names."""
    asked = visit.query.get("feature", "")
    chosen = next((each for each in data.found.features if each.column.name == asked), None)
    with el("div", cls="mp-stack"):
        if chosen is not None:
            _draw_feature(visit, data.found.described.table, chosen)
        elif data.found.features:
            _draw_all(visit, data)
        else:
            empty_state("No features", "All columns of this table are keys; add others to it.", symbol="dataset")


def used_by(consumers: Consumers) -> Cell:
    """How many use something, in words."""
    if consumers.is_none:
        return Cell(badges=(("unused", "warn"),))
    if not consumers.every:
        return Cell(text="none of the newest users")
    told = [
        f"{len(found):,} {word}{'s' if len(found) > 1 else ''}"
        for found, word in ((consumers.models, "model"), (consumers.endpoints, "endpoint"), (consumers.runs, "run"))
        if found
    ]
    names = ", ".join([*consumers.models, *consumers.endpoints])
    return Cell(text=told[0], note=", ".join(told[1:]) or None, title=names[:2000] or None)


def draw_model_features(found: Sequence[ModelFeatures]) -> None:
    """What a model version uses, on the model's page."""
    rows: Rows = [
        [
            Cell(text=str(each.table.name), href=_feature_url(each.table.name), symbol="dataset"),
            "not known which"
            if each.features is None
            else Cell(text=", ".join(each.features) or "keys only", code=True),
        ]
        for each in found
    ]
    columns = (TableColumn(label="Feature table"), TableColumn(label="Features", grow=True))
    DataTable(label="Features", columns=columns, rows=rows)


# All features


def _draw_all(visit: Visit, data: Features) -> None:
    _draw_about(visit, data)
    features, table = data.found.features, data.found.described.table
    words = visit.query.get("q", "").casefold()
    only_unused = bool(visit.query.get("unused"))
    fitting = [each for each in features if _fits(each, words) and (each.consumers.is_none or not only_unused)]
    first = _number(visit.query.get("page"))
    shown = fitting[first : first + _PAGE]
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter features", value=visit.query.get("q", ""), keep=[("tab", TAB)])
        with el("div", cls="mp-row"):
            el("span", f"{len(fitting):,} of {len(features):,} features", cls="mp-note")
            if only_unused:
                button_link("All features", visit.link(unused=None, page=None))
            elif any(each.consumers.is_none for each in features):
                button_link("Unused only", visit.link(unused="yes", page=None))
    if not fitting:
        empty_state("No such feature", "No feature of this table fits.", symbol="search_off")
        return
    with el("div"):
        _draw_list(visit, shown)
        following = first + _PAGE
        pager(
            next_href=visit.link(page=str(following)) if following < len(fitting) else None,
            first_href=visit.link(page=None) if first else None,
            text=f"Features {first + 1:,} to {first + len(shown):,}",
        )
    draw_statistics(visit, table, [each.column.name for each in shown])


def _draw_about(visit: Visit, data: Features) -> None:
    described = data.found.described
    consumers = described.consumers
    with card("Feature table"):
        facts(
            [
                ("Key", Cell(text=", ".join(described.keys), code=True)),
                ("Time", Cell(text=described.time or "", code=True) if described.time else None),
                ("Known at", Cell(text=described.known_at or "", code=True) if described.known_at else None),
                ("Owner", described.table.owner),
                ("Written", Cell(time_ms=epoch_ms(data.written)) if data.written else None),
                *(("Model", Cell(text=name, href=urls.model_url(name))) for name in list(consumers.models)[:_SHOWN]),
                *(("Endpoint", Cell(text=name, href=urls.endpoint_url(name))) for name in consumers.endpoints[:_SHOWN]),
                *(("Online", Cell(text=each.name, href=visit.link(tab=ONLINE))) for each in described.online),
                ("Used by", _all_text(consumers)),
            ]
        )
    if consumers.is_cut:
        notice(_CUT)


def _all_text(consumers: Consumers) -> Cell:
    """On one line, as there is room."""
    cell = used_by(consumers)
    return cell if cell.note is None else Cell(text=f"{cell.text}, {cell.note}")


def _draw_list(visit: Visit, shown: Sequence[Feature]) -> None:
    rows: Rows = [
        [
            Cell(
                text=each.column.name,
                href=visit.link(feature=each.column.name, page=None, q=None, unused=None),
                badges=tag_badges(each.tags),
                note=each.column.comment,
            ),
            Cell(text=each.column.type_text, code=True),
            Cell(text=_short([_source_text(source.node.name, source.column) for source in each.sources])),
            used_by(each.consumers),
        ]
        for each in shown
    ]
    columns = (
        TableColumn(label="Feature", grow=True),
        TableColumn(label="Type"),
        TableColumn(label="Made from", optional=True),
        TableColumn(label="Used by"),
    )
    DataTable(label="Features", columns=columns, rows=rows)


def _fits(feature: Feature, words: str) -> bool:
    told = " ".join((feature.column.name, feature.column.comment or "", *(f"{k}={v}" for k, v in feature.tags.items())))
    return all(word in told.casefold() for word in words.split())


def _source_text(table: str, column: str) -> str:
    return f"{table.rpartition('.')[2]}.{column}"


def _short(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# One feature


def _draw_feature(visit: Visit, table: Table, feature: Feature) -> None:
    name = feature.column.name
    with el("div", cls="mp-title-row"):
        with el("div", cls="mp-row"):
            el("h2", name)
            badge(feature.column.type_text)
            for text, tone in tag_badges(feature.tags):
                badge(text, tone)
        with el("div", cls="mp-actions"):
            link("All features", visit.link(feature=None))
    el(
        "p",
        feature.column.comment or "No comment says what it is.",
        cls="mp-pre" if feature.column.comment else "mp-muted",
    )
    draw_distribution(visit, table, name)
    with card("Made from"):
        _draw_sources(feature)
    with card("Used by"):
        _draw_consumers(feature.consumers)


def _draw_sources(feature: Feature) -> None:
    if not feature.sources:
        el("p", "No column that you may see is known to be in it.", cls="mp-note")
        return
    rows: Rows = [[node_cell(each.node), Cell(text=each.column, code=True)] for each in feature.sources]
    DataTable(label="Made from", columns=(TableColumn(label="From"), TableColumn(label="Column", grow=True)), rows=rows)


def _draw_consumers(consumers: Consumers) -> None:
    if not consumers.every:
        el("p", "No training run, model or endpoint that you may see uses it.", cls="mp-note")
    else:
        columns = (TableColumn(label="What", grow=True), TableColumn(label="How"), TableColumn(label="Last"))
        DataTable(label="Used by", columns=columns, rows=[_consumer_row(each) for each in consumers.every[:_MOST]])
        if len(consumers.every) > _MOST:
            notice(f"The newest {_MOST} of {len(consumers.every):,} are shown.")
    if consumers.is_cut:
        notice(_CUT)


def _consumer_row(consumer: Consumer) -> list[Cell | str]:
    how = "perhaps: it uses the table, and does not say which columns" if consumer.columns is None else "by name"
    cell = node_cell(consumer.node)
    if consumer.node.kind is NodeKind.RUN:
        cell = Cell(text=cell.text, href=urls.run_url(consumer.node.key), symbol=cell.symbol, note="training run")
    return [cell, how, Cell(time_ms=epoch_ms(consumer.last_seen))]


def _feature_url(table: ObjectName) -> str:
    return urls.object_url("table", table, tab=TAB)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 9 else 0
