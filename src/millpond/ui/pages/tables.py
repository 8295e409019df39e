"""A table or view: its columns, some of its rows, its history and its details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.catalog.domain import Guards, ObjectName, Table, TableType
from millpond.engine.reader import Commit, Detail
from millpond.identity.access import Act, allows
from millpond.kernel.clock import epoch_ms
from millpond.ui import urls
from millpond.ui.catalog_tree import Path, load_tree
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    card,
    code_block,
    el,
    empty_state,
    facts,
    filter_form,
    notice,
    page_header,
    pager,
    skeleton,
    tabs,
)
from millpond.ui.features import Features, draw_features, features_tab, load_features
from millpond.ui.formats import size_text
from millpond.ui.grid import GridRows, draw_grid, fill_grid, grid_rows
from millpond.ui.lineage import Lineage, draw_lineage, lineage_tab, load_lineage
from millpond.ui.online import TAB as ONLINE
from millpond.ui.online import draw_online, online_tab
from millpond.ui.pages.catalog import beside_tree
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.policies import Policies, draw_policies, load_policies, policies_tab
from millpond.ui.tags import Tags, draw_tags, load_tags, tag_badges
from millpond.ui.visit import Outcome, Page, Visit, filling, later

SAMPLE_ROWS = 200
HISTORY_ROWS = 200
_COLUMNS_PER_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class _Data:
    tree: list[dict[str, object]]
    table: Table
    guards: Guards
    may_manage: bool
    tags: Tags | None
    """None for the information schema, which has none."""
    column_tags: Mapping[str, Mapping[str, str]]
    permissions: Permissions | None
    policies: Policies | None
    lineage: Lineage | None
    features: Features | None


def _load(visit: Visit) -> _Data:
    name = ObjectName(visit.path["catalog"], visit.path["schema"], visit.path["name"])
    table = visit.services.catalog.get_table(visit.principal, name)
    path = Path(catalog=table.name.catalog, schema=table.name.schema, kind="table", name=table.name.name)
    may_manage = allows(visit.principal, Act.MANAGE, table.securable)
    return _Data(
        tree=load_tree(visit.services, visit.principal, path),
        table=table,
        guards=visit.services.catalog.guards_of(table),
        may_manage=may_manage,
        tags=None if table.securable.public else _tags(visit, table),
        column_tags=visit.services.catalog.tags_of(table).columns,
        permissions=load_permissions(visit, "table", str(table.name)),
        policies=None if table.table_type is TableType.VIEW else load_policies(visit, table.securable),
        lineage=load_lineage(visit, lambda who: visit.services.lineage.lineage.table_node(who, name)),
        features=load_features(visit, table),
    )


def _tags(visit: Visit, table: Table) -> Tags:
    return load_tags(visit, "table", table.securable, columns=tuple(column.name for column in table.columns))


def _draw(visit: Visit, data: _Data) -> None:
    table = data.table
    view = table.table_type is TableType.VIEW
    crumbs = [
        Crumb(label="Catalog", href=urls.CATALOG),
        Crumb(label=table.name.catalog, href=urls.catalog_url(table.name.catalog)),
        Crumb(label=table.name.schema, href=urls.schema_url(table.name.schema_name)),
    ]
    with beside_tree(visit, data.tree):
        kind = "View" if view else f"{table.table_type.value.capitalize()} · {table.data_source_format.capitalize()}"
        symbol = "table_view" if view else "table"
        page_header(table.name.name, symbol=symbol, crumbs=crumbs, kind=kind, subtitle=table.comment)
        if data.tags is not None:
            draw_tags(visit, data.tags)
        keys = [("schema", "Schema"), ("sample", "Sample data"), ("history", "History"), ("details", "Details")]
        active = visit.query.get("tab", "schema")
        items = [
            Tab(key=key, label=label, href=visit.link(tab=None if key == "schema" else key, q=None, page=None))
            for key, label in keys
            if not (view and key == "history")
        ]
        policies = [] if view else policies_tab(visit, table.securable)
        online = [] if view or table.securable.public else [online_tab(visit)]
        features = features_tab(visit, table)
        tabs([*items, *features, *online, lineage_tab(visit), *policies, permissions_tab(visit)], active, label="Table")
        if data.policies is not None:
            draw_policies(visit, data.policies)
            return
        if data.permissions is not None:
            update = visit.services.catalog.update_table
            draw_permissions(visit, data.permissions, give=lambda who, owner: update(who, table.name, owner=owner))
            return
        if data.lineage is not None:
            draw_lineage(visit, data.lineage)
            return
        if data.features is not None:
            draw_features(visit, data.features)
            return
        if active == ONLINE and online:
            draw_online(visit, table.name)
            return
        draw = {"sample": _draw_sample, "history": _draw_history, "details": _draw_details}.get(active, _draw_columns)
        draw(visit, data)


# Columns


def _draw_columns(visit: Visit, data: _Data) -> None:
    wanted = visit.query.get("q", "").casefold()
    matching = [
        column
        for column in data.table.columns
        if wanted in column.name.casefold() or wanted in (column.comment or "").casefold()
    ]
    first = _number(visit.query.get("page"))
    shown = matching[first : first + _COLUMNS_PER_PAGE]
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter columns", value=visit.query.get("q", ""))
        of_all = f" of {len(data.table.columns):,}" if wanted else ""
        el("span", f"{len(matching):,}{of_all} columns", cls="mp-note")
    keys = {name for constraint in data.table.constraints if not constraint.parent_table for name in constraint.columns}
    rows: Rows = [
        [
            Cell(text=str(column.position + 1)),
            Cell(
                text=column.name,
                code=True,
                badges=(
                    *((("primary key", "accent"),) if column.name in keys else ()),
                    *((("partition", "info"),) if column.partition_index is not None else ()),
                    *((("not null", "plain"),) if not column.nullable else ()),
                    *((text, "warn") for text, _ in tag_badges(data.column_tags.get(column.name.lower(), {}))),
                    *((("masked", "warn"),) if column.name in data.guards.masks else ()),
                ),
            ),
            Cell(text=column.type_text, code=True),
            column.comment or "",
        ]
        for column in shown
    ]
    columns = (
        TableColumn(label="#", numeric=True),
        TableColumn(label="Column"),
        TableColumn(label="Type"),
        TableColumn(label="Comment", grow=True),
    )
    DataTable(label="Columns", columns=columns, rows=rows)
    following = first + _COLUMNS_PER_PAGE
    pager(
        next_href=visit.link(page=str(following)) if following < len(matching) else None,
        first_href=visit.link(page=None) if first else None,
        text=f"Columns {first + 1:,} to {first + len(shown):,}",
    )


# Rows


def _draw_sample(visit: Visit, data: _Data) -> None:
    name = data.table.name
    place = el("div")
    with place:
        note = ui.label("Reading rows …").classes("mp-note mp-toolbar")
        grid = draw_grid(f"Rows of {name}")

    def fill(outcome: Outcome[GridRows]) -> None:
        if outcome.value is None or not outcome.value.rows:
            place.clear()
            with place:
                _draw_no_rows(name, outcome)
            return
        count = len(outcome.value.rows)
        note.set_text(f"The first {count:,} rows" if count >= SAMPLE_ROWS else f"All {count:,} rows")
        fill_grid(grid, outcome.value)

    later(visit, lambda principal: grid_rows(visit.services.tables.preview(principal, name, limit=SAMPLE_ROWS)), fill)


def _draw_no_rows(name: ObjectName, outcome: Outcome[GridRows]) -> None:
    if outcome.value is None:
        notice(outcome.error, "bad", role="alert")
        return
    empty_state(
        "This table has no rows",
        "Its columns exist, and nothing has been written to it.",
        symbol="table_rows",
        code=f'df.writeTo("{name}").append()',
        code_title="PySpark",
    )


# History


def _draw_history(visit: Visit, data: _Data) -> None:
    name = data.table.name
    place = el("div")
    with place:
        skeleton(6)
    later(
        visit,
        lambda principal: visit.services.tables.history(principal, name, limit=HISTORY_ROWS),
        filling(place, lambda outcome: _fill_history(name, outcome)),
    )


def _fill_history(name: ObjectName, outcome: Outcome[Sequence[Commit]]) -> None:
    if outcome.value is None:
        notice(outcome.error, "bad", role="alert")
        return
    rows: Rows = [
        [
            Cell(text=str(commit.version)),
            Cell(time_ms=commit.timestamp_ms),
            commit.user,
            Cell(text=commit.operation, note=parameters_text(commit.parameters)),
            Cell(text=metrics_text(commit.metrics)),
        ]
        for commit in outcome.value
    ]
    columns = (
        TableColumn(label="Version", numeric=True),
        TableColumn(label="When"),
        TableColumn(label="Who", short=True),
        TableColumn(label="Operation", grow=True),
        TableColumn(label="Changed", optional=True),
    )
    with el("div", cls="mp-stack"):
        DataTable(label="History", columns=columns, rows=rows)
        if outcome.value:
            version = outcome.value[-1].version
            # shown, not run
            code = f'spark.sql("SELECT * FROM {name} VERSION AS OF {version}")'  # noqa: S608
            code_block(code, title="Read an earlier version")


_HIDDEN_PARAMETERS = frozenset({"location", "path", "metadata", "protocol", "properties", "description"})
"""Places that only managers may see, and what the other tabs show better."""

_METRICS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("numOutputRows", "numAddedRows"), "rows written"),
    (("numTargetRowsInserted", "numInsertedRows"), "rows inserted"),
    (("numTargetRowsUpdated", "numUpdatedRows"), "rows updated"),
    (("numTargetRowsDeleted", "numDeletedRows"), "rows deleted"),
    (("numOutputFiles", "numFiles", "numTargetFilesAdded", "numAddedFiles", "numFilesAdded"), "files added"),
    (("numRemovedFiles", "numTargetFilesRemoved", "numFilesRemoved"), "files removed"),
)
_SIZES = ("numOutputBytes", "numAddedBytes", "totalSize")


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """What a commit was asked to do, without what is empty and without places."""
    shown = [
        f"{key}: {value}"
        for key, value in parameters.items()
        if key not in _HIDDEN_PARAMETERS and value not in (None, "", [], {}, "[]", "{}", "null")
    ]
    return "\n".join(line[:300] for line in shown[:12])


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """What a commit changed: rows, files and bytes that are not zero, whichever engine's names they have."""
    parts = []
    for names, words in _METRICS:
        value = next((str(metrics[name]) for name in names if name in metrics), "0")
        if value.isdecimal() and int(value):
            unit, what = words.split(" ", 1)
            parts.append(f"{int(value):,} {unit if int(value) > 1 else unit.removesuffix('s')} {what}")
    size = next((str(metrics[name]) for name in _SIZES if name in metrics), "0")
    if size.isdecimal() and int(size):
        parts.append(size_text(int(size)))
    return "\n".join(parts)


# Details


def _draw_details(visit: Visit, data: _Data) -> None:
    table = data.table
    if table.view_definition:
        code_block(table.view_definition, title="View definition").style("margin-bottom: 20px")
    with el("div", cls="mp-grid-cards"):
        with card("About"):
            facts(
                [
                    ("Full name", Cell(text=str(table.name), code=True)),
                    ("Owner", table.owner),
                    ("Type", table.table_type.value.capitalize()),
                    ("Format", table.data_source_format),
                    ("Created", Cell(time_ms=epoch_ms(table.created_at))),
                    ("Created by", table.created_by),
                    ("Changed", Cell(time_ms=epoch_ms(table.updated_at))),
                    ("Changed by", table.updated_by),
                    ("Location", Cell(text=table.storage_location, code=True) if data.may_manage else None),
                ]
            )
        if table.table_type is not TableType.VIEW:
            with card("Storage"):
                place = el("div")
                with place:
                    skeleton(4)
                later(visit, lambda p: visit.services.tables.detail(p, table.name), filling(place, _fill_detail))
    if table.guards:
        with card("Who sees what").style("margin-top: 16px"):
            facts(_guard_facts(data.guards))
    if table.properties:
        with card("Properties").style("margin-top: 16px"):
            facts([(key, Cell(text=value, code=True)) for key, value in sorted(table.properties.items())])


def _guard_facts(guards: Guards) -> list[tuple[str, Cell]]:
    """The functions that decide, with the columns that they are given."""
    named = [("Row filter", guards.row_filter)] if guards.row_filter is not None else []
    named += [(f"Mask of {column}", mask) for column, mask in guards.masks.items()]
    return [
        (
            label,
            Cell(
                text=str(guard.function.name) + (f" ({', '.join(guard.columns)})" if guard.columns else ""), code=True
            ),
        )
        for label, guard in named
    ]


def _fill_detail(outcome: Outcome[Detail]) -> None:
    detail = outcome.value
    if detail is None:
        notice(outcome.error, "bad", role="alert")
        return
    facts(
        [
            ("Version", str(detail.version)),
            ("Size", size_text(detail.size_bytes)),
            ("Files", f"{detail.files:,}"),
            ("Partitioned by", ", ".join(detail.partition_columns) or "not partitioned"),
            ("Delta protocol", f"reader {detail.reader_version}, writer {detail.writer_version}"),
        ]
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 9 else 0


PAGES = (
    Page(
        path="/catalog/{catalog}/{schema}/tables/{name}",
        section="catalog",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: str(data.table.name),
    ),
)
