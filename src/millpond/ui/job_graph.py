"""Where the tasks of a job stand in a picture: each to the right of all that it depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any

from nicegui.element import Element

from millpond.jobs.domain import Need
from millpond.ui.elements import Tone

_BOX, _GAP = (164, 46), (40, 14)
_DOT, _DOT_GAP = (14, 14), (30, 5)
_MOST_BOXES = 120
_MOST_ROWS = {True: 12, False: 40}
"""Rows of boxes and of squares before a layer goes on in a column beside."""
_LONGEST = 19


@dataclass(frozen=True, kw_only=True)
class Node:
    """A task in the picture."""

    key: str
    needs: tuple[Need, ...]
    words: str
    """How it stands, or what it does."""
    tone: Tone
    href: str
    x: int = 0
    y: int = 0


def needs_of(task: Mapping[str, Any]) -> tuple[Need, ...]:
    """What a task of some settings depends on."""
    return tuple(Need(key=need["task_key"], outcome=need.get("outcome") or "") for need in task.get("depends_on") or ())


def layers_of(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes by the longest way from the start; within a layer near what they depend on."""
    levels: dict[str, int] = {}
    places: dict[str, float] = {}
    layers: list[list[Node]] = []
    by_key = {node.key: node for node in nodes}
    needs = {node.key: [need.key for need in node.needs if need.key in by_key] for node in nodes}
    for key in TopologicalSorter(needs).static_order():
        levels[key] = max((levels[before] + 1 for before in needs[key]), default=0)
    for node in nodes:
        while len(layers) <= levels[node.key]:
            layers.append([])
        layers[levels[node.key]].append(node)
    for layer in layers:
        layer.sort(key=lambda node: _mean([places[key] for key in needs[node.key]]))
        places |= {node.key: row - len(layer) / 2 for row, node in enumerate(layer)}
    return layers


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Nodes in their places, in pixels."""

    nodes: tuple[Node, ...]
    width: int
    height: int
    boxes: bool
    """Whether there is room for texts."""


def picture_of(nodes: Sequence[Node]) -> Picture:
    """Put nodes into places; a layer of many goes on in further columns."""
    boxes = len(nodes) <= _MOST_BOXES
    (width, height), (gap, row_gap) = (_BOX, _GAP) if boxes else (_DOT, _DOT_GAP)
    most = _MOST_ROWS[boxes]
    columns: list[tuple[int, list[Node]]] = []
    x = 2
    for layer in layers_of(nodes):
        for start in range(0, len(layer), most):
            columns.append((x, layer[start : start + most]))
            x += width + row_gap
        x += gap - row_gap
    highest = max((len(column) for _, column in columns), default=0) * (height + row_gap) - row_gap
    placed = [
        replace(
            node, x=at, y=2 + (highest + row_gap - len(column) * (height + row_gap)) // 2 + row * (height + row_gap)
        )
        for at, column in columns
        for row, node in enumerate(column)
    ]
    return Picture(nodes=tuple(placed), width=max(x - gap + 4, 0), height=highest + 4, boxes=boxes)


class JobGraph(Element, component="components/job_graph.js"):
    """The picture, drawn by the browser from values; each task is a link."""

    def __init__(self, label: str, nodes: Sequence[Node]) -> None:
        super().__init__()
        picture = picture_of(nodes)
        places = {node.key: place for place, node in enumerate(picture.nodes)}
        self.props["label"] = label
        self.props["width"], self.props["height"] = picture.width, picture.height
        self.props["box"] = list(_BOX if picture.boxes else _DOT)
        self.props["nodes"] = [_node(node, boxes=picture.boxes) for node in picture.nodes]
        self.props["edges"] = [
            [places[need.key], places[node.key], need.outcome]
            for node in picture.nodes
            for need in node.needs
            if need.key in places
        ]


def _node(node: Node, *, boxes: bool) -> Mapping[str, str | int]:
    texts = {"l": _short(node.key), "n": _short(node.words, 25)} if boxes else {}
    said = f"{node.key}, {node.words}"
    return {"x": node.x, "y": node.y, "t": node.tone, "h": node.href, "s": said, **texts}


def _short(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
