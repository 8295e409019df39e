"""What uses tables: training runs, model versions, endpoints and online tables; and what tables a model version uses.

A use is a way of at most three steps (table → run → model version → endpoint) that does not go through other tables.
It ends at what the principal may not see, as every way of lineage does.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.lineage import store
from millpond.lineage.domain import Direction, NodeKind, SeenNode, Use
from millpond.lineage.service import LineageService
from millpond.lineage.store import column_edges, edges, nodes

USERS = (NodeKind.RUN, NodeKind.MODEL_VERSION, NodeKind.ENDPOINT, NodeKind.ONLINE_TABLE)
"""What uses tables."""
_MOST_OF_ONE = 500
"""Of one table, the newest, where columns are asked for: each may use some thousand."""
_MOST_OF_MANY = 100
"""Of each of several tables."""
_MOST_COLUMNS = 200_000
_STEPS = 3

Columns = frozenset[str] | None
"""Names in lower case; None where it is not known which: perhaps all."""
_Flow = tuple[str, str, str, str]
"""A node and its column, and those that they are in."""


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """What uses a table."""

    node: SeenNode
    columns: Columns
    last_seen: datetime


@dataclass(frozen=True, kw_only=True)
class TableUses:
    """All that uses a table, newest first."""

    consumers: tuple[Consumer, ...]
    is_cut: bool
    """Whether there is more, older, than is told."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A column from which another comes."""

    node: SeenNode
    column: str


@dataclass(frozen=True, kw_only=True)
class UsedTable:
    """A table that something uses."""

    node: SeenNode
    columns: tuple[str, ...] | None
    """In the order of their names; None where it is not known which."""


class Uses:
    """Follows uses as somebody."""

    def __init__(self, database: Database, lineage: LineageService) -> None:
        self._database = database
        self._lineage = lineage

    def of_tables(self, principal: Principal, tables: Collection[str]) -> Mapping[str, TableUses]:
        """By a table's node id what uses it, whichever of its columns; the same few queries for any number."""
        with self._database.read() as connection:
            return self._of(principal, connection, tables, _MOST_OF_MANY, columns=False)

    def of_columns(self, principal: Principal, table: str) -> TableUses:
        """What uses a table, and which of its columns."""
        with self._database.read() as connection:
            return self._of(principal, connection, [table], _MOST_OF_ONE, columns=True)[table]

    def _of(
        self, principal: Principal, connection: Connection, tables: Collection[str], most: int, *, columns: bool
    ) -> Mapping[str, TableUses]:
        """`most` is how many users are looked at of each table, and of each of these."""
        reached: dict[str, dict[str, Columns]] = {each: {each: None} for each in tables}
        seen: dict[str, SeenNode] = {}
        times: dict[str, datetime] = {}
        here, cut = set(tables), set[str]()
        for _ in range(_STEPS):
            found = _edges_to(connection, here, most)
            counts = Counter(source for source, _, _ in found)
            cut |= {table for source, count in counts.items() if count >= most for table in reached[source]}
            new = self._lineage.see(principal, connection, {target for _, target, _ in found} - seen.keys())
            seen |= new
            named = _named(_flows(connection, here, seen)) if columns else {}
            for source, target, at in found:
                if target in seen:
                    _carry_on(reached[source], reached.setdefault(target, {}), named.get((source, target)))
                    times[target] = max(at, times.get(target, at))
            here = set(new)
        users: dict[str, list[Consumer]] = {table: [] for table in tables}
        for node in sorted(seen.values(), key=lambda node: (times[node.id], node.id), reverse=True):
            for table, used in reached[node.id].items():
                users[table].append(Consumer(node=node, columns=used, last_seen=times[node.id]))
        return {table: TableUses(consumers=tuple(consumers), is_cut=table in cut) for table, consumers in users.items()}

    def sources_of(self, principal: Principal, table: SeenNode) -> Mapping[str, Sequence[Source]]:
        """By a table's column in lower case the columns from which it comes, without the table's own."""
        with self._database.read() as connection:
            found = store.column_edges_at(
                connection, [table.id], Direction.UPSTREAM, _MOST_COLUMNS, columns=table.columns
            )
            seen = self._lineage.see(principal, connection, {each.source_id for each in found} - {table.id})
        made: dict[str, list[Source]] = {}
        for each in found:
            if each.use is Use.VALUE and each.source_id in seen:
                source = Source(node=seen[each.source_id], column=each.source_column)
                made.setdefault(each.target_column.lower(), []).append(source)
        return made

    def tables_of(self, principal: Principal, version: SeenNode) -> Sequence[UsedTable]:
        """The tables that a model version uses, by name: those of its run, and its own."""
        graph = self._lineage.graph(principal, version, steps=2, directions=[Direction.UPSTREAM])
        named: dict[str, set[str]] = {}
        for each in graph.columns:
            if each.use is Use.VALUE:
                named.setdefault(each.source_id, set()).add(each.source_column)
        users = {version.id, *(e.source_id for e in graph.edges if graph.nodes[e.source_id].kind is NodeKind.RUN)}
        sources = {edge.source_id for edge in graph.edges if edge.target_id in users}
        tables = (graph.nodes[each] for each in sources if graph.nodes[each].kind is NodeKind.TABLE)
        return [
            UsedTable(node=node, columns=tuple(sorted(named[node.id])) if node.id in named else None)
            for node in sorted(tables, key=lambda node: node.name)
        ]


def _carry_on(source: Mapping[str, Columns], target: dict[str, Columns], named: Columns) -> None:
    """What a source uses of tables its target uses too: as far as is known, only what is `named` of the source."""
    for table, columns in source.items():
        used = named if columns is None else columns if named is None else columns & named
        before = target.get(table, frozenset())
        target[table] = None if used is None or before is None else before | used


def _named(flows: Iterable[_Flow]) -> Mapping[tuple[str, str], frozenset[str]]:
    """By source and target the columns of the source."""
    found: dict[tuple[str, str], set[str]] = {}
    for source, column, target, _ in flows:
        found.setdefault((source, target), set()).add(column.lower())
    return {pair: frozenset(columns) for pair, columns in found.items()}


def _edges_to(connection: Connection, here: Collection[str], most: int) -> Sequence[tuple[str, str, datetime]]:
    """Source, target and time of the edges from here to what uses tables: of each source the newest."""
    pair, time = (edges.c.source_id, edges.c.target_id), func.max(edges.c.last_seen)
    rank = func.row_number().over(partition_by=edges.c.source_id, order_by=(time.desc(), edges.c.target_id))
    users = select(*pair, time.label("last_seen"), rank.label("rank"))
    users = users.join(nodes, nodes.c.id == edges.c.target_id).group_by(*pair)
    users = users.where(edges.c.source_id.in_(sorted(here)), edges.c.ended_at.is_(None), nodes.c.kind.in_(USERS))
    ranked = users.subquery()
    rows = connection.execute(select(ranked).where(ranked.c.rank <= most))
    return [(row.source_id, row.target_id, row.last_seen) for row in rows]


def _flows(connection: Connection, sources: Collection[str], targets: Collection[str]) -> Sequence[_Flow]:
    """The columns of nodes that are in columns of others; none where they are too many to tell all."""
    table = column_edges
    query = select(table.c.source_id, table.c.source_column, table.c.target_id, table.c.target_column).where(
        table.c.source_id.in_(sorted(sources)),
        table.c.target_id.in_(sorted(targets)),
        table.c.use == Use.VALUE.value,
        table.c.ended_at.is_(None),
    )
    found = connection.execute(query.limit(_MOST_COLUMNS)).all()
    return [] if len(found) >= _MOST_COLUMNS else [(row[0], row[1], row[2], row[3]) for row in found]
