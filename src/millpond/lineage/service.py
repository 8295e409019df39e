"""What one can ask of lineage, and how it is recorded."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.domain import ObjectName, Table, TableType
from millpond.catalog.service import CatalogService
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from millpond.lineage import job_uses, pins, store
from millpond.lineage.domain import (
    ColumnEdge,
    Direction,
    Edge,
    Node,
    NodeKind,
    Observation,
    SeenNode,
)

Seer = Callable[[Principal, Sequence[SeenNode]], Mapping[str, SeenNode]]
"""Of some nodes of one kind those that a principal may see, by id, as they are called now."""
MOST_NODES = 500
MOST_EDGES = 5_000
MOST_COLUMN_EDGES = 20_000
MOST_STEPS = 20
_MOST_PAGES = 40
"""Of jobs and runs that are looked through for those that one may see."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A node next to another."""

    node: SeenNode
    edge: Edge


@dataclass(frozen=True, kw_only=True)
class ColumnNeighbour:
    """A column next to another."""

    node: SeenNode
    column: str
    edge: ColumnEdge


@dataclass(frozen=True, kw_only=True)
class Graph:
    """All that is connected with a node, as far as somebody may see it."""

    root: str
    nodes: Mapping[str, SeenNode]
    edges: tuple[Edge, ...]
    columns: tuple[ColumnEdge, ...]
    is_cut: bool
    """Whether there is more than is shown."""


class LineageService:
    """Lineage for users."""

    def __init__(self, database: Database, catalog: CatalogService) -> None:
        self._database = database
        self._catalog = catalog
        self._seers: dict[NodeKind, Seer] = {
            NodeKind.TABLE: self._see_tables,
            NodeKind.PATH: self._see_paths,
            NodeKind.EXTERNAL: _see_all,
            NodeKind.DATASET: _see_all,
        }
        self._job_names: job_uses.JobNames = lambda _principal, _works: {}

    def on_kind(self, kind: NodeKind, seer: Seer) -> None:
        """Let an upper room say who may see nodes of its kind. Until then nobody does."""
        self._seers[kind] = seer

    def on_jobs(self, names: job_uses.JobNames) -> None:
        """Let an upper room say who may see which job. Until then nobody does."""
        self._job_names = names

    # -- recording ----------------------------------------------------------------------------------------------

    def record(self, observations: Sequence[Observation]) -> int:
        """Take in what was observed, each once; how many were new. For the server: whoever calls has checked."""
        if not observations:
            return 0
        with self._database.write() as connection:
            return record_in(connection, observations)

    def record_reads(self, found: Sequence[pins.VersionRead]) -> None:
        """Take in which versions of tables were read, each once. For the server: whoever calls has checked."""
        if found:
            with self._database.write() as connection:
                pins.put_reads(connection, found)

    # -- neighbours ---------------------------------------------------------------------------------------------

    def table_node(self, principal: Principal, name: ObjectName) -> SeenNode:
        """A table as a node. Raises NotFound."""
        return _seen_table(self._catalog.get_table(principal, name))

    def neighbours(self, principal: Principal, node: SeenNode, direction: Direction) -> list[Neighbour]:
        """What a node was made of (upstream), or what was made of it; newest first."""
        with self._database.read() as connection:
            edges = store.edges_at(connection, [node.id], direction, MOST_EDGES)
            seen = self.see(principal, connection, {_far(edge, direction) for edge in edges})
        far = [(seen.get(_far(edge, direction)), edge) for edge in edges]
        return [Neighbour(node=found, edge=edge) for found, edge in far if found is not None]

    def column_neighbours(
        self, principal: Principal, node: SeenNode, column: str, direction: Direction
    ) -> list[ColumnNeighbour]:
        """The same for a column. Those that were only looked at have no column downstream."""
        with self._database.read() as connection:
            edges = store.column_edges_at(connection, [node.id], direction, MOST_EDGES, columns=[column])
            seen = self.see(principal, connection, {_far(edge, direction) for edge in edges})
        upstream = direction is Direction.UPSTREAM
        return [
            ColumnNeighbour(node=found, column=edge.source_column if upstream else edge.target_column, edge=edge)
            for edge in edges
            if (found := seen.get(_far(edge, direction))) is not None
        ]

    # -- jobs ---------------------------------------------------------------------------------------------------

    def of_job_run(self, principal: Principal, run_id: int) -> tuple[list[job_uses.Touched], bool]:
        """What the tasks of a job's run read and wrote, the newest first, and whether there is more. Whoever calls has
        checked who sees the run."""
        with self._database.read() as connection:
            done, is_cut = job_uses.of_run(connection, run_id)
            seen = self.see(principal, connection, {each.node_id for each in done})
        found = [job_uses.Touched(done=each, node=seen[each.node_id]) for each in done if each.node_id in seen]
        return found, is_cut

    def jobs_of(self, principal: Principal, node: SeenNode) -> list[job_uses.UsedBy]:
        """What jobs, and runs without a job, that one may see did last with a node, the newest first; at most 100 of
        each."""
        found = [used for per in (job_uses.JOB, job_uses.RUN) for used in self._used_by(principal, node, per)]
        return sorted(found, key=lambda used: used.done.last_seen, reverse=True)

    def _used_by(self, principal: Principal, node: SeenNode, per: str) -> list[job_uses.UsedBy]:
        found: list[job_uses.UsedBy] = []
        last = None
        for _ in range(_MOST_PAGES):
            with self._database.read() as connection:
                done = job_uses.of_node(connection, node.id, per, last)
            names = self._job_names(principal, [each.work for each in done]) if done else {}
            found += [job_uses.UsedBy(done=each, job=names[each.work]) for each in done if each.work in names]
            if len(done) < job_uses.PAGE or len(found) >= job_uses.MOST_JOBS:
                break
            last = done[-1]
        return found[: job_uses.MOST_JOBS]

    # -- the graph ----------------------------------------------------------------------------------------------

    def graph(
        self,
        principal: Principal,
        root: SeenNode,
        *,
        steps: int = 5,
        directions: Collection[Direction] = tuple(Direction),
        columns: bool = True,
    ) -> Graph:
        """What is connected with a node within so many steps in each direction. Hidden nodes end the way."""
        nodes, edges, is_cut = {root.id: root}, dict[tuple[str, str], Edge](), False
        with self._database.read() as connection:
            for direction in directions:
                is_cut |= self._follow(principal, connection, root, direction, min(steps, MOST_STEPS), nodes, edges)
            found = store.column_edges_between(connection, nodes, MOST_COLUMN_EDGES) if columns else []
        is_cut |= len(found) >= MOST_COLUMN_EDGES
        return Graph(root=root.id, nodes=nodes, edges=tuple(edges.values()), columns=tuple(found), is_cut=is_cut)

    def _follow(
        self,
        principal: Principal,
        connection: Connection,
        root: SeenNode,
        direction: Direction,
        steps: int,
        nodes: dict[str, SeenNode],
        edges: dict[tuple[str, str], Edge],
    ) -> bool:
        """Add what lies in one direction; whether there is more."""
        here = {root.id}
        passed = set(here)
        for _ in range(steps):
            found = store.edges_at(connection, here, direction, MOST_EDGES)
            seen = self.see(principal, connection, {_far(edge, direction) for edge in found})
            if len(nodes) + len(seen) > MOST_NODES:
                return True
            nodes |= seen
            edges |= {(e.source_id, e.target_id): e for e in found if _far(e, direction) in seen}
            here = set(seen) - passed
            passed |= here
            if not here:
                return False
        return bool(self.see(principal, connection, {_far(e, direction) for e in store.edges_at(
            connection, here, direction, 1)}))  # fmt: skip

    # -- who may see what ---------------------------------------------------------------------------------------

    def see(self, principal: Principal, connection: Connection, ids: Collection[str]) -> dict[str, SeenNode]:
        """Those of some nodes that the principal may see."""
        by_kind: dict[NodeKind, list[SeenNode]] = {}
        for row in store.find_nodes(connection, ids).values():
            node = SeenNode(id=row.id, kind=NodeKind(row.kind), key=row.key, name=row.name, details=row.details)
            by_kind.setdefault(node.kind, []).append(node)
        seen: dict[str, SeenNode] = {}
        for kind, found in by_kind.items():
            seen |= self._seers.get(kind, _see_none)(principal, found)
        return seen

    def see_nodes(self, principal: Principal, found: Sequence[Node]) -> dict[str, SeenNode]:
        """Those of some nodes that the principal may see, whether or not anything is known of them."""
        seen: dict[str, SeenNode] = {}
        for node in found:
            seer = self._seers.get(node.kind, _see_none)
            seen |= seer(principal, [SeenNode(id=node.id, kind=node.kind, key=node.key, name=node.name)])
        return seen

    def see_node(self, principal: Principal, node: Node) -> SeenNode:
        """One node. Raises NotFound for one that is not there or that the principal may not see."""
        with self._database.read() as connection:
            seen = self.see(principal, connection, [node.id])
        if node.id not in seen:
            raise NotFound(f"{node.kind.value.replace('_', ' ').capitalize()} '{node.name}' has no lineage here.")
        return seen[node.id]

    def _see_tables(self, principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
        tables = self._catalog.find_tables_by_id(principal, [node.key for node in found])
        return {node.id: _seen_table(tables[node.key]) for node in found if node.key in tables}

    def _see_paths(self, principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
        return {
            node.id: node for node in found if self._catalog.may_reach(principal, _fixed_part(node.key), write=False)
        }


def forget_runs(connection: Connection, run_ids: Collection[int]) -> None:
    """Forget what the tasks of jobs' runs did, in the transaction that removes the runs."""
    store.lock(connection)  # before the rows, as whoever records does
    job_uses.forget(connection, run_ids)


def is_recorded(connection: Connection, observation: Observation) -> bool:
    """Whether it has been taken in before."""
    return bool(store.known_observations(connection, [observation.id]))


def record_in(connection: Connection, observations: Sequence[Observation]) -> int:
    """Take in what was observed, in the caller's transaction; how many were new."""
    store.lock(connection)
    known = store.known_observations(connection, {observation.id for observation in observations})
    fresh = list({each.id: each for each in observations if each.id not in known}.values())
    for observation in fresh:
        _record(connection, observation)
    return len(fresh)


def _record(connection: Connection, observation: Observation) -> None:
    target = [observation.target] if observation.target else []
    store.put_nodes(connection, [*observation.sources, *target, *(flow.source for flow in observation.columns)])
    if observation.replaces and observation.target is not None:
        store.end_edges_into(connection, observation.target.id)
    store.put_edges(connection, observation)
    store.put_events(connection, observation)
    job_uses.put(connection, observation)


def _far(edge: Any, direction: Direction) -> str:
    far: str = edge.source_id if direction is Direction.UPSTREAM else edge.target_id
    return far


def _see_all(_principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
    """What lies outside is told to everybody who is signed in, as Databricks grants BROWSE on it to all."""
    return {node.id: node for node in found}


def _see_none(_principal: Principal, _found: Sequence[SeenNode]) -> dict[str, SeenNode]:
    return {}


def table_node(table: Table) -> Node:
    """A table of the catalog as a node."""
    return Node(kind=NodeKind.TABLE, key=table.id, name=str(table.name))


def _seen_table(table: Table) -> SeenNode:
    kind = "VIEW" if table.table_type is TableType.VIEW else "TABLE"
    return SeenNode(
        id=table_node(table).id,
        kind=NodeKind.TABLE,
        key=table.id,
        name=str(table.name),
        details={"type": kind},
        columns=tuple(column.name for column in table.columns),
    )


def _fixed_part(location: str) -> str:
    """A location without its pattern, up to the directory that it cannot leave."""
    from millpond.catalog.locations import without_glob

    return without_glob(location)
