"""Impact: what breaks if a table goes, or a column of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.lineage import store
from millpond.lineage.domain import Direction, NodeKind, SeenNode, Use
from millpond.lineage.service import MOST_EDGES, MOST_NODES, MOST_STEPS, LineageService

Place = tuple[str, str]
"""A node and one of its columns; an empty name is the whole of it."""


class Cause(StrEnum):
    """Why something is affected."""

    VALUE = "value"
    """Its values come from there."""
    ROWS = "rows"
    """Its rows were chosen, joined, grouped or ordered by it."""
    TABLE = "table"
    """It was made of the table that goes, or of one that is affected as a whole."""
    POSSIBLE = "possible"
    """It was made of the table; whether of this column is not known."""


@dataclass(frozen=True, kw_only=True)
class Affected:
    """Something that would break."""

    node: SeenNode
    column: str
    """Empty where it is affected as a whole."""
    cause: Cause
    steps: int
    """How far away it is."""
    through: str
    """Name of what it is made of, on the shortest way."""


class Impact:
    """Follows what would break."""

    def __init__(self, database: Database, lineage: LineageService) -> None:
        self._database = database
        self._lineage = lineage

    def of(self, principal: Principal, root: SeenNode, column: str = "") -> list[Affected]:
        """All that would break, nearest first, as far as the principal may see it."""
        found: dict[Place, Affected] = {}
        nodes = {root.id: root}
        here: set[Place] = {(root.id, column.lower())}
        passed = set(here)
        with self._database.read() as connection:
            for step in range(1, MOST_STEPS + 1):
                reached = self._step(principal, connection, here, nodes, step)
                fresh = {place: each for place, each in reached.items() if place not in passed}
                passed |= set(fresh)
                found |= fresh
                here = set(fresh)
                if not here or len(found) > MOST_NODES * 10:
                    break
        whole = {node_id for node_id, name in found if not name}
        return [each for (node_id, name), each in found.items() if not name or node_id not in whole]

    def _step(
        self, principal: Principal, connection: Connection, here: set[Place], nodes: dict[str, SeenNode], step: int
    ) -> dict[Place, Affected]:
        edges = store.edges_at(connection, {node_id for node_id, _ in here}, Direction.DOWNSTREAM, MOST_EDGES)
        columns = store.column_edges_at(connection, {n for n, name in here if name}, Direction.DOWNSTREAM, MOST_EDGES)
        ways: list[tuple[Place, Place, Cause]] = []
        for each in columns:
            if (each.source_id, each.source_column.lower()) in here:
                cause = Cause.VALUE if each.use is Use.VALUE else Cause.ROWS
                ways.append(((each.source_id, ""), (each.target_id, each.target_column), cause))
        followed = {(each.source_id, each.target_id) for each in columns}
        for edge in edges:
            pair = (edge.source_id, edge.target_id)
            whole = (edge.source_id, "") in here
            if whole:
                ways.append(((edge.source_id, ""), (edge.target_id, ""), Cause.TABLE))
            elif edge.inexact or pair not in followed:
                ways += [
                    ((edge.source_id, ""), (edge.target_id, name), Cause.POSSIBLE) for name in edge.inexact or ("",)
                ]
        seen = self._lineage.see(principal, connection, {target for _, (target, _), _ in ways})
        nodes |= seen
        return _affected(ways, seen, nodes, step)


def _affected(
    ways: Iterable[tuple[Place, Place, Cause]], seen: dict[str, SeenNode], nodes: dict[str, SeenNode], step: int
) -> dict[Place, Affected]:
    found: dict[Place, Affected] = {}
    for (source_id, _), (target_id, column), cause in ways:
        node = seen.get(target_id)
        if node is None:
            continue
        name = column if node.kind is NodeKind.TABLE else ""
        place = (target_id, name.lower())
        found.setdefault(
            place, Affected(node=node, column=name, cause=cause, steps=step, through=nodes[source_id].name)
        )
    return found
