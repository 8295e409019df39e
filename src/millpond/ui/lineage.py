"""The tab that says what something was made of, what was made of it, and what breaks without it; also by column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import ui

from millpond.catalog.domain import ObjectName
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import NotFound
from millpond.lineage.domain import Direction, Edge, NodeKind, SeenNode, Use, Way
from millpond.lineage.impact import Cause, Damage
from millpond.lineage.job_uses import Done, UsedBy
from millpond.lineage.service import Graph
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    card,
    el,
    empty_state,
    notice,
)
from millpond.ui.lineage_graph import graph_options, height_px, trace
from millpond.ui.theme import CHART_COLOURS
from millpond.ui.visit import Visit

TAB = "lineage"
_STEPS = 5
_WORDS = {
    Cause.VALUE: "computed from it",
    Cause.ROWS: "its rows are chosen by it",
    Cause.TABLE: "made of it",
    Cause.POSSIBLE: "perhaps made of it",
}
_SYMBOLS = {NodeKind.TABLE: "table", NodeKind.PATH: "folder", NodeKind.RUN: "science", NodeKind.ENDPOINT: "api",
            NodeKind.MODEL_VERSION: "deployed_code", NodeKind.ONLINE_TABLE: "bolt"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What the tab shows."""

    node: SeenNode | None
    """None where nothing is known."""
    graph: Graph | None = None
    column: str = ""
    damage: Damage | None = None
    jobs: Sequence[UsedBy] = ()


def lineage_tab(visit: Visit) -> Tab:
    """The tab itself."""
    return Tab(key=TAB, label="Lineage", href=visit.link(tab=TAB, q=None, page=None))


def load_lineage(visit: Visit, find: Callable[[Principal], SeenNode]) -> Lineage | None:
    """What the tab needs, when it is the open one."""
    if visit.query.get("tab") != TAB:
        return None
    room, who = visit.services.lineage, visit.principal
    try:
        node = find(who)
    except NotFound:
        return Lineage(node=None)
    column = visit.query.get("column", "")
    return Lineage(
        node=node,
        graph=room.lineage.graph(who, node, steps=_STEPS),
        column=column if column in node.columns else "",
        damage=room.impact.of(who, node, column if column in node.columns else ""),
        jobs=room.lineage.jobs_of(who, node),
    )


def draw_lineage(visit: Visit, data: Lineage) -> None:
    """Draw the tab."""
    if data.node is None or data.graph is None or not (data.graph.edges or data.jobs):
        empty_state(
            "No lineage yet",
            "What is written from now on, by SQL or DataFrames of any client, is followed to its columns; and so are "
            "the data that runs log as inputs.",
            symbol="account_tree",
        )
        return
    with el("div", cls="mp-stack"):
        if data.node.columns:
            _draw_choice(visit, data)
        if data.graph.edges:
            _draw_graph(visit, data, data.graph)
        _draw_neighbours(data, data.graph, Direction.UPSTREAM)
        _draw_neighbours(data, data.graph, Direction.DOWNSTREAM)
        _draw_jobs(data.jobs)
        _draw_impact(data)


def _draw_choice(visit: Visit, data: Lineage) -> None:
    assert data.node is not None
    with el("form", cls="mp-row", method="get"):
        el("input", type="hidden", name="tab", value=TAB)
        choices = [("", "All columns"), *((name, name) for name in data.node.columns)]
        SelectField(label="Column", choices=choices, value=data.column, name="column")
        el("button", "Follow", cls="mp-button", type="submit")


def _draw_graph(visit: Visit, data: Lineage, graph: Graph) -> None:
    assert data.node is not None
    hrefs = {node_id: href for node_id, node in graph.nodes.items() if (href := node_url(node))}
    options = graph_options(graph, trace(graph, data.column), CHART_COLOURS[visit.theme])
    drawn = ui.echart(options, on_point_click=lambda event: _follow(hrefs.get(str(event.name)))).classes("mp-chart")
    drawn.style(f"height: {height_px(graph)}px")
    drawn.props["role"] = "img"
    drawn.props["aria-label"] = f"Lineage of {data.node.name}: {len(graph.nodes)} nodes, listed below"
    if graph.is_cut:
        notice(f"There is more than {_STEPS} steps away; open a neighbour to see on from there.")


def _follow(href: str | None) -> None:
    if href is not None:
        ui.navigate.to(href)


def node_url(node: SeenNode) -> str | None:
    """The page of what a node is, at its lineage where it has such a tab."""
    if node.kind is NodeKind.TABLE:
        return urls.object_url("table", ObjectName.of_full_name(node.name), tab=TAB)
    if node.kind is NodeKind.MODEL_VERSION:
        name, _, version = node.name.rpartition("/")
        return f"{urls.model_url(name, version)}&tab={TAB}"
    if node.kind is NodeKind.ENDPOINT:
        return urls.endpoint_url(node.name)
    return None


def _draw_neighbours(data: Lineage, graph: Graph, direction: Direction) -> None:
    upstream = direction is Direction.UPSTREAM
    found = [
        (graph.nodes[edge.source_id if upstream else edge.target_id], edge)
        for edge in graph.edges
        if (edge.target_id if upstream else edge.source_id) == graph.root and edge.source_id != edge.target_id
    ]
    if not found:
        return
    rows: Rows = [
        [
            node_cell(node),
            Cell(text=_flows(data, graph, edge), badges=(("some only by table", "warn"),) if edge.inexact else ()),
            Cell(text=edge.operation, badges=((edge.known.value, "plain"),), note=edge.actor),
            Cell(time_ms=epoch_ms(edge.last_seen)),
        ]
        for node, edge in sorted(found, key=lambda pair: pair[0].name)
    ]
    columns = (
        TableColumn(label="From" if upstream else "To", short=True),
        TableColumn(label="Columns", grow=True),
        TableColumn(label="How"),
        TableColumn(label="When", optional=True),
    )
    with card("Made of" if upstream else "What was made of it"):
        DataTable(label="Made of" if upstream else "What was made of it", columns=columns, rows=rows)


def _flows(data: Lineage, graph: Graph, edge: Edge) -> str:
    root = data.column.lower()
    names = []
    for each in graph.columns:
        if (each.source_id, each.target_id) == (edge.source_id, edge.target_id) and each.use is Use.VALUE:
            here = each.target_column if edge.target_id == graph.root else each.source_column
            if not root or here.lower() == root:
                names.append(f"{each.source_column} → {each.target_column}")
    return ", ".join(sorted(names))[:2000]


def _draw_jobs(used: Sequence[UsedBy]) -> None:
    if not used:
        return
    rows: Rows = [
        [
            _job_cell(each),
            did_cell(each.done),
            Cell(text=f"run {each.done.work.run_id}", href=urls.job_run_url(each.done.work.run_id)),
            Cell(time_ms=epoch_ms(each.done.last_seen)),
        ]
        for each in used
    ]
    columns = (
        TableColumn(label="Job", grow=True),
        TableColumn(label="How"),
        TableColumn(label="Last run"),
        TableColumn(label="When", optional=True),
    )
    with card("Jobs that use it"):
        DataTable(label="Jobs that use it", columns=columns, rows=rows)


def _job_cell(used: UsedBy) -> Cell:
    job_id = used.done.work.job_id
    if job_id is None:
        return Cell(text=used.job, note="a run without a job")
    return Cell(text=used.job, href=urls.job_url(job_id))


def did_cell(done: Done) -> Cell:
    """What a task did with a node, in a table."""
    if done.way is Way.READ:
        return Cell(text="read")
    return Cell(text="wrote", badges=((done.operation, "plain"),))


def _draw_impact(data: Lineage) -> None:
    what = f"the column {data.column}" if data.column else "it"
    title = f"What breaks if {what} goes"
    assert data.damage is not None
    with card(title):
        if not data.damage.affected:
            el("p", "Nothing that you may see.", cls="mp-note")
            return
        rows: Rows = [
            [node_cell(each.node), Cell(text=each.column or "all of it", code=bool(each.column)),
             Cell(text=_WORDS[each.cause], note=f"through {each.through}" if each.steps > 1 else None), str(each.steps)]
            for each in data.damage.affected
        ]  # fmt: skip
        columns = (
            TableColumn(label="What", short=True),
            TableColumn(label="Column"),
            TableColumn(label="Why", grow=True),
            TableColumn(label="Steps", numeric=True),
        )
        DataTable(label=title, columns=columns, rows=rows)
        if data.damage.is_cut:
            notice("There is more, further away.")


def node_cell(node: SeenNode) -> Cell:
    """A node in a table, with the way to its page."""
    return Cell(
        text=node.name,
        href=node_url(node),
        symbol=_SYMBOLS.get(node.kind, "link"),
        note=None if node.kind is NodeKind.TABLE else node.kind.value.replace("_", " "),
    )
