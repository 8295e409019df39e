"""Lineage as a picture: nodes in layers, upstream to the left, and the way of one column through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millpond.lineage.domain import ColumnEdge, Direction, Edge, Known, NodeKind, SeenNode, Use
from millpond.lineage.service import Graph

_LAYER_WIDTH, _ROW_HEIGHT = 230, 74
_LONGEST = 26
SYMBOLS: Mapping[NodeKind, str] = {
    NodeKind.TABLE: "roundRect",
    NodeKind.PATH: "rect",
    NodeKind.RUN: "circle",
    NodeKind.MODEL_VERSION: "diamond",
    NodeKind.ENDPOINT: "triangle",
    NodeKind.EXTERNAL: "pin",
    NodeKind.DATASET: "pin",
}


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Where a column comes from and goes to."""

    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of its columns by node."""
    pairs: frozenset[tuple[str, str]] = frozenset()
    """The edges along which it goes."""


def trace(graph: Graph, column: str) -> Trace:
    """The way of a column of the graph's root through values."""
    if not column:
        return Trace()
    found: dict[str, dict[str, None]] = {graph.root: {column: None}}
    pairs: set[tuple[str, str]] = set()
    for direction in Direction:
        passed = {(graph.root, column.lower())}
        here = set(passed)
        while here:
            steps = [edge for edge in graph.columns if edge.use is Use.VALUE and _near(edge, direction) in here]
            pairs |= {(edge.source_id, edge.target_id) for edge in steps}
            here = {_far(edge, direction) for edge in steps} - passed
            passed |= here
            for edge in steps:
                upstream = direction is Direction.UPSTREAM
                node, name = (edge.source_id, edge.source_column) if upstream else (edge.target_id, edge.target_column)
                found.setdefault(node, {})[name] = None
    return Trace(columns={node_id: list(names) for node_id, names in found.items()}, pairs=frozenset(pairs))


def _near(edge: ColumnEdge, direction: Direction) -> tuple[str, str]:
    if direction is Direction.UPSTREAM:
        return edge.target_id, edge.target_column.lower()
    return edge.source_id, edge.source_column.lower()


def _far(edge: ColumnEdge, direction: Direction) -> tuple[str, str]:
    return _near(edge, Direction.DOWNSTREAM if direction is Direction.UPSTREAM else Direction.UPSTREAM)


def layers(graph: Graph) -> dict[str, int]:
    """How many steps each node is from the root; negative upstream."""
    levels = {graph.root: 0}
    for direction, step in ((Direction.UPSTREAM, -1), (Direction.DOWNSTREAM, 1)):
        following: dict[str, list[str]] = {}
        for edge in graph.edges:
            near, far = edge.target_id, edge.source_id
            near, far = (near, far) if direction is Direction.UPSTREAM else (far, near)
            following.setdefault(near, []).append(far)
        here = [graph.root]
        for near in here:  # grows as it is walked
            fresh = [far for far in dict.fromkeys(following.get(near, ())) if far not in levels]
            levels |= dict.fromkeys(fresh, levels[near] + step)
            here += fresh
    return levels


def graph_options(graph: Graph, traced: Trace, colours: Sequence[str]) -> dict[str, Any]:
    """The picture for ECharts."""
    accent, text, line = colours
    levels = layers(graph)
    rows: dict[int, int] = {}
    drawn: list[dict[str, Any]] = []
    for node_id, node in sorted(graph.nodes.items(), key=lambda item: (levels.get(item[0], 0), item[1].name)):
        level = levels.get(node_id, 0)
        rows[level] = rows.get(level, 0) + 1
        drawn.append(_node(node, traced, is_root=node_id == graph.root, accent=accent, text=text)
                     | {"x": level * _LAYER_WIDTH, "level": level, "row": rows[level]})  # fmt: skip
    for each in drawn:
        each["y"] = (each.pop("row") - (rows[each.pop("level")] + 1) / 2) * _ROW_HEIGHT
    links = [_link(edge, traced, accent, line) for edge in graph.edges if edge.source_id != edge.target_id]
    series = {
        "type": "graph", "layout": "none", "roam": True, "data": drawn, "links": links, "symbolSize": 18,
        "edgeSymbol": ["none", "arrow"], "edgeSymbolSize": 8, "emphasis": {"focus": "adjacency"},
        "left": 90, "right": 130, "top": 40, "bottom": 50,
    }  # fmt: skip
    return {"animation": False, "textStyle": {"fontFamily": "inherit"}, "tooltip": {"show": False}, "series": [series]}


def _node(node: SeenNode, traced: Trace, *, is_root: bool, accent: str, text: str) -> dict[str, Any]:
    columns = traced.columns.get(node.id, ())
    label = _short(node.name.rpartition("/" if node.kind is NodeKind.PATH else ".")[2])
    if columns:
        label += "\n" + _short(", ".join(columns))
    filled = is_root or bool(columns)
    return {
        "id": node.id,
        "name": node.id,
        "symbol": SYMBOLS[node.kind],
        "itemStyle": {"color": accent if filled else text, "opacity": 1 if filled else 0.75},
        "label": {"show": True, "position": "bottom", "color": text, "formatter": _literal(label),
                  "fontWeight": "bold" if is_root else "normal"},
    }  # fmt: skip


def _link(edge: Edge, traced: Trace, accent: str, line: str) -> dict[str, Any]:
    followed = (edge.source_id, edge.target_id) in traced.pairs
    style = {
        "color": accent if followed else line,
        "width": 2.5 if followed else 1.5,
        "type": "dashed" if edge.known is Known.DECLARED else "solid",
    }
    return {"source": edge.source_id, "target": edge.target_id, "lineStyle": style}


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


def _literal(label: str) -> str:
    """A label in which ECharts finds nothing to fill in."""
    return label.replace("{", "(").replace("}", ")")
