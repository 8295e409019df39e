"""Lineage as a picture: nodes in layers, upstream to the left, and the way of one column through them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millpond.lineage.domain import ColumnEdge, Direction, Edge, Known, NodeKind, SeenNode, Use
from millpond.lineage.service import Graph

_ROW_HEIGHT = 84
_LONGEST = 26
SYMBOLS: Mapping[NodeKind, str] = {
    NodeKind.TABLE: "roundRect",
    NodeKind.PATH: "rect",
    NodeKind.RUN: "circle",
    NodeKind.MODEL_VERSION: "diamond",
    NodeKind.ENDPOINT: "triangle",
    NodeKind.ONLINE_TABLE: "roundRect",
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
    """How far each node is from the root, on the longest way without a circle; negative upstream."""
    levels: dict[str, int] = {}
    for direction, sign in ((Direction.UPSTREAM, -1), (Direction.DOWNSTREAM, 1)):
        following: dict[str, list[str]] = {}
        for edge in graph.edges:
            near, far = edge.source_id, edge.target_id
            near, far = (far, near) if direction is Direction.UPSTREAM else (near, far)
            following.setdefault(near, []).append(far)
        for node_id, steps in _longest_ways(graph.root, following).items():
            levels.setdefault(node_id, sign * steps)
    return levels


def _longest_ways(root: str, following: Mapping[str, Sequence[str]]) -> dict[str, int]:
    order = _ordered(root, following)
    places = {node_id: place for place, node_id in enumerate(order)}
    steps = dict.fromkeys(order, 0)
    for node_id in order:
        for far in following.get(node_id, ()):
            if places[far] > places[node_id]:  # else it closes a circle
                steps[far] = max(steps[far], steps[node_id] + 1)
    return steps


def _ordered(root: str, following: Mapping[str, Sequence[str]]) -> list[str]:
    """All that is reached, each before what follows it, as far as there is no circle."""
    done: list[str] = []
    seen = {root}
    ways = [(root, iter(following.get(root, ())))]
    while ways:
        node_id, rest = ways[-1]
        far = next((each for each in rest if each not in seen), None)
        if far is None:
            done.append(node_id)
            ways.pop()
        else:
            seen.add(far)
            ways.append((far, iter(following.get(far, ()))))
    return done[::-1]


def graph_options(graph: Graph, traced: Trace, colours: Sequence[str]) -> dict[str, Any]:
    """The picture for ECharts, on axes that are not shown, as these do not stretch what stands on them."""
    accent, text, line = colours
    levels = layers(graph)
    rows: dict[int, list[SeenNode]] = {}
    for node in sorted(graph.nodes.values(), key=lambda node: node.name):
        rows.setdefault(levels.get(node.id, 0), []).append(node)
    drawn = [
        _node(node, traced, is_root=node.id == graph.root, accent=accent, text=text)
        | {"value": [level, (len(in_level) - 1) / 2 - row]}
        for level, in_level in rows.items()
        for row, node in enumerate(in_level)
    ]
    links = [_link(edge, traced, accent, line) for edge in graph.edges if edge.source_id != edge.target_id]
    series = {
        "type": "graph", "coordinateSystem": "cartesian2d", "data": drawn, "links": links,
        "edgeSymbol": ["none", "arrow"], "edgeSymbolSize": 9, "emphasis": {"focus": "adjacency"},
    }  # fmt: skip
    half = max(map(len, rows.values())) / 2
    axis = {"type": "value", "show": False}
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 80, "right": 80, "top": 10, "bottom": 20},
        "xAxis": {**axis, "min": min(rows), "max": max(rows)},
        "yAxis": {**axis, "min": -half, "max": half},
        "series": [series],
    }


def height_px(graph: Graph) -> int:
    """As high as the fullest layer needs."""
    counts = Counter(layers(graph).values())
    return 60 + _ROW_HEIGHT * max(counts.values())


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
        "symbolSize": [34, 22] if node.kind in {NodeKind.TABLE, NodeKind.PATH} else 24,
        "itemStyle": {"color": accent if filled else text},
        "label": {"show": True, "position": "bottom", "color": text, "fontSize": 12, "lineHeight": 16,
                  "formatter": _literal(label), "fontWeight": "bold" if is_root else "normal"},
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
