"""SQL of lineage."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from millpond.kernel.clock import utc_now
from millpond.kernel.database import BigId, Json, UtcDateTime, metadata
from millpond.lineage.domain import (
    Act,
    ColumnEdge,
    ColumnFlow,
    Direction,
    Edge,
    Entity,
    Known,
    Node,
    NodeKind,
    Observation,
    Use,
    digest,
)

T = TypeVar("T", Edge, ColumnEdge)
_AT_ONCE = 5000
"""SQLite takes 32,766 parameters in one statement."""

nodes = Table(
    "lineage_nodes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("details", Json, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
edges = Table(
    "lineage_edges",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("source_id", String(32), nullable=False),
    Column("target_id", String(32), nullable=False),
    Column("known", String(20), nullable=False),
    Column("operation", String(60), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("session", String(255), nullable=False),
    Column("statement", String(255), nullable=False),
    Column("entity_type", String(60), nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("job_id", BigInteger),
    Column("job_run_id", BigInteger),
    Column("inexact", Json, nullable=False),
    Column("details", Json, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index(None, "source_id"),
    Index(None, "target_id"),
)
"""`ended_at` is set where it held only for an earlier definition of a view, or was taken back by who declared it."""
column_edges = Table(
    "lineage_column_edges",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("source_id", String(32), nullable=False),
    Column("source_column", Text, nullable=False),
    Column("target_id", String(32), nullable=False),
    Column("target_column", Text, nullable=False),
    Column("use", String(10), nullable=False),
    Column("known", String(20), nullable=False),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index(None, "source_id"),
    Index(None, "target_id"),
)
events = Table(
    "lineage_events",
    metadata,
    Column("sequence", BigId, primary_key=True, autoincrement=False),
    Column("observation", String(36), nullable=False, index=True),
    Column("time", UtcDateTime, nullable=False),
    Column("source_id", String(32)),
    Column("source_name", Text),
    Column("target_id", String(32)),
    Column("target_name", Text),
    Column("known", String(20), nullable=False),
    Column("operation", String(60), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("session", String(255), nullable=False),
    Column("statement", String(255), nullable=False, index=True),
    Column("entity_type", String(60), nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("job_id", BigInteger),
    Column("job_run_id", BigInteger),
)
"""Names are those of the moment. One without a target is a read; all columns of one source and target follow it."""
column_events = Table(
    "lineage_column_events",
    metadata,
    Column("sequence", BigId, primary_key=True, autoincrement=False),
    Column("event", BigInteger, nullable=False),
    Column("source_column", Text, nullable=False),
    Column("target_column", Text, nullable=False),
    Index(None, "event"),
)
counters = Table(
    "lineage_counters",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("events", BigInteger, nullable=False),
    Column("column_events", BigInteger, nullable=False),
)
"""One row, which is locked by whoever adds events: so a larger sequence is committed later."""
emissions = Table(
    "lineage_emissions",
    metadata,
    Column("destination", String(32), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)
"""How far events have been sent to each place outside."""


# -- recording ----------------------------------------------------------------------------------------------------


def lock(connection: Connection) -> None:
    """Nobody else adds events until the transaction ends. Before the look at what is known."""
    connection.execute(update(counters).values(events=counters.c.events))


def known_observations(connection: Connection, ids: Collection[str]) -> set[str]:
    """Which of these have been recorded."""
    found = connection.execute(select(events.c.observation).where(events.c.observation.in_(ids)).distinct())
    return set(found.scalars())


def put_nodes(connection: Connection, found: Iterable[Node]) -> None:
    """Make these known under the names that they have now."""
    now = utc_now()
    rows: dict[str, dict[str, Any]] = {
        node.id: {"id": node.id, "kind": node.kind.value, "key": _text(node.key), "name": _text(node.name),
                  "details": {}, "updated_at": now}
        for node in found
    }  # fmt: skip
    _upsert(connection, nodes, list(rows.values()), ["name", "updated_at"])


def put_node(connection: Connection, node: Node, details: Mapping[str, Any]) -> None:
    """What is known of something outside besides its name."""
    put_nodes(connection, [node])
    connection.execute(update(nodes).where(nodes.c.id == node.id).values(details=dict(details)))


def end_edges_into(connection: Connection, target_id: str) -> None:
    """What was known of how this came to be holds no longer."""
    for table in (edges, column_edges):
        ended = update(table).where(table.c.target_id == target_id, table.c.ended_at.is_(None))
        connection.execute(ended.values(ended_at=utc_now()))


def end_edges(connection: Connection, source_id: str, target_id: str, operation: str) -> bool:
    """What was declared so holds no longer between the two; whether there was anything."""
    there = and_(edges.c.source_id == source_id, edges.c.target_id == target_id, edges.c.ended_at.is_(None))
    if connection.execute(select(edges.c.id).where(there, edges.c.operation == operation)).first() is None:
        return False
    for table in (edges, column_edges):
        declared = and_(table.c.known == Known.DECLARED.value, table.c.ended_at.is_(None))
        change = update(table).where(table.c.source_id == source_id, table.c.target_id == target_id, declared)
        connection.execute(change.values(ended_at=utc_now()))
    return True


def put_edges(connection: Connection, observation: Observation) -> None:
    """Add or renew the edges of an observation."""
    if observation.target is None:
        return
    act, target = observation.act, observation.target
    seen = {"first_seen": act.time, "last_seen": act.time, "ended_at": None, "known": act.known.value}
    rows = [
        {"id": digest(source.id, target.id, act.known.value), "source_id": source.id, "target_id": target.id,
         "count": 1, "inexact": list(observation.inexact), "details": dict(observation.details), **_act(act), **seen}
        for source in observation.sources
    ]  # fmt: skip
    _upsert(connection, edges, rows, ["last_seen", "ended_at", "inexact", "details", *_act(act)], count=True)
    found = {
        (flow_id := _flow_id(flow, target, act.known)): {
            "id": flow_id, "source_id": flow.source.id, "source_column": _text(flow.source_column),
            "target_id": target.id, "target_column": _text(flow.target_column), "use": flow.use.value, **seen,
        }
        for flow in observation.columns
    }  # fmt: skip
    _upsert(connection, column_edges, list(found.values()), ["last_seen", "ended_at"])


def _flow_id(flow: ColumnFlow, target: Node, known: Known) -> str:
    source = (flow.source.id, flow.source_column.lower())
    return digest(*source, target.id, flow.target_column.lower(), flow.use.value, known.value)


def _act(act: Act) -> dict[str, str | int | None]:
    told = {
        "known": act.known.value,
        "operation": act.operation[:60],
        "actor": act.actor[:255],
        "session": act.session[:255],
        "statement": act.statement[:255],
        "entity_type": act.entity.type[:60],
        "entity_id": act.entity.id,
    }
    work = act.work
    whose = {"job_id": work.job_id if work else None, "job_run_id": work.run_id if work else None}
    return {name: _text(value) for name, value in told.items()} | whose


def _text(value: str) -> str:
    """A text that PostgreSQL takes."""
    return value.replace("\0", "\ufffd")


def _upsert(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], renewed: Sequence[str], *, count: bool = False
) -> None:
    """Insert, or renew some columns, in the order of ids, so that two writers lock rows in the same order."""
    if not rows:
        return
    made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    values = {name: made.excluded[name] for name in renewed}
    if count:
        values["count"] = table.c.count + 1
    statement = made.on_conflict_do_update(index_elements=["id"], set_=values)
    connection.execute(statement, sorted(rows, key=lambda row: str(row["id"])))


def put_events(connection: Connection, observation: Observation) -> None:
    """Add the events of an observation. The caller holds the lock."""
    pairs: list[tuple[Node | None, Node | None]] = [(source, observation.target) for source in observation.sources]
    pairs = pairs or [(None, observation.target)]
    flows: dict[str, list[ColumnFlow]] = {}
    for flow in observation.columns:
        if flow.use is Use.VALUE:
            flows.setdefault(flow.source.id, []).append(flow)
    own = observation.target.id if observation.target else ""
    if own in flows and own not in {source.id for source in observation.sources}:
        pairs.append((observation.target, observation.target))  # columns of its own are in its columns
    first = _numbers(connection, "events", len(pairs))
    rows: list[dict[str, Any]] = []
    columns: list[tuple[int, ColumnFlow]] = []
    for number, (source, target) in enumerate(pairs, start=first):
        rows.append(_event(observation, source, target) | {"sequence": number})
        columns += [(number, flow) for flow in flows.get(source.id if source else "", ())]
    connection.execute(insert(events), rows)
    _put_column_events(connection, columns)


def _event(observation: Observation, source: Node | None, target: Node | None) -> dict[str, Any]:
    return {
        "observation": observation.id,
        "time": observation.act.time,
        "source_id": source.id if source else None,
        "source_name": _text(source.name) if source else None,
        "target_id": target.id if target else None,
        "target_name": _text(target.name) if target else None,
        **_act(observation.act),
    }


def _put_column_events(connection: Connection, columns: Sequence[tuple[int, ColumnFlow]]) -> None:
    if not columns:
        return
    first = _numbers(connection, "column_events", len(columns))
    rows = [
        {"sequence": number, "event": event, "source_column": _text(f.source_column),
         "target_column": _text(f.target_column)}
        for number, (event, f) in enumerate(columns, start=first)
    ]  # fmt: skip
    connection.execute(insert(column_events), rows)


def _numbers(connection: Connection, name: str, count: int) -> int:
    """The first of so many fresh numbers."""
    column = counters.c[name]
    last = connection.execute(update(counters).values({name: column + count}).returning(column)).scalar_one()
    return int(last) - count + 1


# -- reading ------------------------------------------------------------------------------------------------------


def find_nodes(connection: Connection, ids: Collection[str]) -> dict[str, Any]:
    """Rows of nodes by id."""
    found: dict[str, Any] = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), _AT_ONCE):
        query = select(nodes).where(nodes.c.id.in_(wanted[start : start + _AT_ONCE]))
        found |= {row.id: row for row in connection.execute(query)}
    return found


def nodes_of_kind(connection: Connection, kind: NodeKind, after: str, limit: int) -> Sequence[Any]:
    """Rows of one kind's nodes by name."""
    query = select(nodes).where(nodes.c.kind == kind.value, nodes.c.name > after).order_by(nodes.c.name)
    return connection.execute(query.limit(limit)).all()


def delete_node(connection: Connection, node_id: str) -> None:
    """Forget something outside with all its edges; its events stay."""
    for table in (edges, column_edges):
        connection.execute(delete(table).where(or_(table.c.source_id == node_id, table.c.target_id == node_id)))
    connection.execute(delete(nodes).where(nodes.c.id == node_id))


def edges_at(connection: Connection, ids: Collection[str], direction: Direction, limit: int) -> list[Edge]:
    """Edges that hold, from these nodes in one direction, newest first."""
    here = edges.c.target_id if direction is Direction.UPSTREAM else edges.c.source_id
    query = select(edges).where(here.in_(sorted(ids)), edges.c.ended_at.is_(None))
    rows = connection.execute(query.order_by(edges.c.last_seen.desc(), edges.c.id).limit(limit))
    return _best([_edge_of(row) for row in rows], lambda edge: (edge.source_id, edge.target_id))


def _best(found: list[T], key: Callable[[T], tuple[str, ...]]) -> list[T]:
    """Of edges that are known in several ways the one that is known best."""
    ranked: dict[tuple[str, ...], T] = {}
    for edge in found:
        other = ranked.get(key(edge))
        if other is None or _RANKS[edge.known] < _RANKS[other.known]:
            ranked[key(edge)] = edge
    return list(ranked.values())


_RANKS = {Known.OBSERVED: 0, Known.PARSED: 1, Known.DECLARED: 2}


def _column_key(edge: ColumnEdge) -> tuple[str, ...]:
    return (edge.source_id, edge.source_column.lower(), edge.target_id, edge.target_column.lower(), edge.use.value)


def _edge_of(row: Any) -> Edge:
    return Edge(
        source_id=row.source_id,
        target_id=row.target_id,
        known=Known(row.known),
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        count=row.count,
        operation=row.operation,
        actor=row.actor,
        session=row.session,
        statement=row.statement,
        entity=Entity(type=row.entity_type, id=row.entity_id),
        job_id=row.job_id,
        job_run_id=row.job_run_id,
        inexact=tuple(row.inexact),
        details=row.details,
    )


def column_edges_at(
    connection: Connection, ids: Collection[str], direction: Direction, limit: int, *, columns: Collection[str]
) -> list[ColumnEdge]:
    """Column edges that hold, from columns with these names of these nodes in one direction, newest first."""
    table = column_edges
    upstream = direction is Direction.UPSTREAM
    here, name = (table.c.target_id, table.c.target_column) if upstream else (table.c.source_id, table.c.source_column)
    query = select(table).where(here.in_(sorted(ids)), table.c.ended_at.is_(None))
    if all(column.isascii() for column in columns):  # SQLite knows upper and lower case of no others
        query = query.where(func.lower(name).in_(sorted({column.lower() for column in columns})))
    rows = connection.execute(query.order_by(table.c.last_seen.desc(), table.c.id).limit(limit))
    found = [column_edge_of(row) for row in rows]
    wanted = {column.lower() for column in columns}
    named = [edge for edge in found if (edge.target_column if upstream else edge.source_column).lower() in wanted]
    return _best(named, _column_key)


def followed_pairs(connection: Connection, ids: Collection[str]) -> set[tuple[str, str]]:
    """From which of these nodes to which others columns are known to flow."""
    table = column_edges
    pairs = select(table.c.source_id, table.c.target_id).where(
        table.c.source_id.in_(sorted(ids)), table.c.ended_at.is_(None)
    )
    return {(row.source_id, row.target_id) for row in connection.execute(pairs.distinct())}


def column_edges_between(connection: Connection, ids: Collection[str], limit: int) -> list[ColumnEdge]:
    """Column edges that hold among these nodes."""
    table, wanted = column_edges, sorted(ids)
    inside = and_(table.c.source_id.in_(wanted), table.c.target_id.in_(wanted), table.c.ended_at.is_(None))
    rows = connection.execute(select(table).where(inside).order_by(table.c.id).limit(limit))
    return _best([column_edge_of(row) for row in rows], _column_key)


def column_edge_of(row: Any) -> ColumnEdge:
    """The edge of a row."""
    return ColumnEdge(
        source_id=row.source_id,
        source_column=row.source_column,
        target_id=row.target_id,
        target_column=row.target_column,
        use=Use(row.use),
        known=Known(row.known),
        first_seen=row.first_seen,
        last_seen=row.last_seen,
    )


def events_after(connection: Connection, sequence: int, limit: int) -> Sequence[Any]:
    """Events in the order in which they were recorded."""
    query = select(events).where(events.c.sequence > sequence).order_by(events.c.sequence).limit(limit)
    return connection.execute(query).all()


def column_events_after(connection: Connection, sequence: int, limit: int) -> Sequence[Any]:
    """Column events with what their events say."""
    told = [column for column in events.c if column.name != "sequence"]
    query = select(column_events, *told).join(events, events.c.sequence == column_events.c.event)
    query = query.where(column_events.c.sequence > sequence).order_by(column_events.c.sequence).limit(limit)
    return connection.execute(query).all()


def nodes_of_statement(connection: Connection, act: Act) -> tuple[dict[str, Node], dict[str, Node]]:
    """The sources and the targets that an act's statement or run has told of before."""
    told = _act(act)
    of_it = and_(*(events.c[name] == told[name] for name in ("statement", "actor", "operation")))
    rows = connection.execute(select(events.c.source_id, events.c.target_id).where(of_it).limit(_AT_ONCE)).all()
    found = find_nodes(connection, {each for row in rows for each in row if each})
    made = {row.id: Node(kind=NodeKind(row.kind), key=row.key, name=row.name) for row in found.values()}
    sources, targets = ({row[side] for row in rows} & made.keys() for side in (0, 1))
    return {each: made[each] for each in sources}, {each: made[each] for each in targets}


def column_events_of(connection: Connection, sequences: Collection[int]) -> Sequence[Any]:
    """Column events of some events."""
    return connection.execute(select(column_events).where(column_events.c.event.in_(sorted(sequences)))).all()


# -- sending ------------------------------------------------------------------------------------------------------


def emitted(connection: Connection, destination: str) -> int | None:
    """The last event that was sent there; None for a new place."""
    return connection.execute(select(emissions.c.sequence).where(emissions.c.destination == destination)).scalar()


def last_event(connection: Connection) -> int:
    """The number of the newest event."""
    return int(connection.execute(select(counters.c.events)).scalar_one())


def put_emitted(connection: Connection, destination: str, sequence: int) -> None:
    """Events up to this one were sent there."""
    changed = update(emissions).where(emissions.c.destination == destination).values(sequence=sequence)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(emissions).values(destination=destination, sequence=sequence))
