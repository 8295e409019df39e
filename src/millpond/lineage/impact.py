"""Impact: what breaks if a table goes, or a column of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.lineage import store
from millpond.lineage.domain import Direction, NodeKind, SeenNode, Use
from millpond.lineage.service import MOST_COLUMN_EDGES, MOST_EDGES, MOST_STEPS, LineageService

Place = tuple[str, str]
"""A node and one of its columns; an empty name is the whole of it."""
_MOST_PLACES = 5_000


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


@dataclass(frozen=True, kw_only=True)
class Damage:
    """All that would break."""

    affected: tuple[Affected, ...]
    is_cut: bool
    """Whether there is more than is told."""


_Way = tuple[str, Place, Cause]
"""From which node to which place, and why."""


class Impact:
    """Follows what would break."""

    def __init__(self, database: Database, lineage: LineageService) -> None:
        self._database = database
        self._lineage = lineage

    def of(self, principal: Principal, root: SeenNode, column: str = "") -> "Damage":
        """All that would break, nearest first, as far as the principal may see it."""
        found: dict[Place, Affected] = {}
        nodes = {root.id: root}
        here: set[Place] = {(root.id, column.lower())}
        passed = set(here)
        with self._database.read() as connection:
            for step in range(1, MOST_STEPS + 1):
                reached = self._step(principal, connection, here, nodes, step)
                found |= {place: each for place, each in reached.items() if place not in passed}
                here = set(reached) - passed
                passed |= here
                if not here or len(found) > _MOST_PLACES:
                    break
        whole = {node_id for node_id, name in found if not name}
        shown = [each for (node_id, name), each in found.items() if not name or node_id not in whole]
        return Damage(affected=tuple(shown), is_cut=bool(here))

    def _step(
        self, principal: Principal, connection: Connection, here: set[Place], nodes: dict[str, SeenNode], step: int
    ) -> dict[Place, Affected]:
        ways = [*_column_ways(connection, here), *_table_ways(connection, here)]
        seen = self._lineage.see(principal, connection, {target for _, (target, _), _ in ways})
        nodes |= seen
        return _affected(ways, seen, nodes, step)


def _column_ways(connection: Connection, here: set[Place]) -> Iterator[_Way]:
    """From columns to columns, and to what was chosen by them."""
    named = {place for place in here if place[1]}
    if not named:
        return
    ids, names = {node_id for node_id, _ in named}, {name for _, name in named}
    for each in store.column_edges_at(connection, ids, Direction.DOWNSTREAM, MOST_COLUMN_EDGES, columns=names):
        if (each.source_id, each.source_column.lower()) in named:
            cause = Cause.VALUE if each.use is Use.VALUE else Cause.ROWS
            yield each.source_id, (each.target_id, each.target_column), cause


def _table_ways(connection: Connection, here: set[Place]) -> Iterator[_Way]:
    """From whole tables to all that was made of them; from columns to where it is not known whether they went."""
    ids = {node_id for node_id, _ in here}
    followed = store.followed_pairs(connection, ids)
    for edge in store.edges_at(connection, ids, Direction.DOWNSTREAM, MOST_EDGES):
        if (edge.source_id, "") in here:
            yield edge.source_id, (edge.target_id, ""), Cause.TABLE
        elif edge.inexact or (edge.source_id, edge.target_id) not in followed:
            for name in edge.inexact or ("",):
                yield edge.source_id, (edge.target_id, name), Cause.POSSIBLE


def _affected(
    ways: Iterable[_Way], seen: Mapping[str, SeenNode], nodes: Mapping[str, SeenNode], step: int
) -> dict[Place, Affected]:
    found: dict[Place, Affected] = {}
    for source_id, (target_id, column), cause in ways:
        node = seen.get(target_id)
        if node is None:
            continue
        name = column if node.kind is NodeKind.TABLE else ""
        through = nodes[source_id].name
        place = (target_id, name.lower())
        found.setdefault(place, Affected(node=node, column=name, cause=cause, steps=step, through=through))
    return found
