"""Clusters, what happened to them, and their libraries."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from millpond.compute.domain import Cluster, Event, Library, Source, State
from millpond.kernel.clock import utc_now
from millpond.kernel.database import BigId, Json, UtcDateTime, metadata
from millpond.kernel.errors import Conflict

MOST_CLUSTERS = 10_000
_MOST_EVENTS = 1000
"""Of a cluster; older ones go."""

clusters = Table(
    "compute_clusters",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("creator", String(255), nullable=False),
    Column("source", String(10), nullable=False),
    Column("spec", Json, nullable=False),
    Column("state", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("termination", Json, nullable=False),
    Column("workers", Integer, nullable=False),
    Column("server", String(36), nullable=False),
    Column("alive_until", UtcDateTime),
    Column("starts", Integer, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("run_id", BigId),
    Column("token", String(300), unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("restarted_at", UtcDateTime),
    Column("terminated_at", UtcDateTime),
    Column("used_at", UtcDateTime, nullable=False),
    Index("ix_compute_clusters_state", "state"),
)
events = Table(
    "compute_events",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("cluster_id", String(40), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("type", String(40), nullable=False),
    Column("details", Json, nullable=False),
    Index("ix_compute_events_cluster_id", "cluster_id"),
)
libraries = Table(
    "compute_libraries",
    metadata,
    Column("cluster_id", String(40), primary_key=True),
    Column("key", String(500), primary_key=True),
    Column("library", Json, nullable=False),
    Column("status", String(30), nullable=False),
    Column("messages", Json, nullable=False),
    Column("added_by", String(255), nullable=False),
    Column("serial", BigId, nullable=False),
)

_FIELDS = tuple(column.name for column in clusters.c if column.name != "token")


def add(connection: Connection, cluster: Cluster, token: str | None) -> None:
    """Add one. Raises Conflict where another has the token."""
    values = {name: getattr(cluster, name) for name in _FIELDS}
    try:
        connection.execute(insert(clusters).values(**values, token=token))
    except IntegrityError as error:
        raise Conflict("Another request with this idempotency_token was made at the same time; ask again.") from error


def find(connection: Connection, cluster_id: str, *, lock: bool = False) -> Cluster | None:
    """The cluster with an id."""
    if "\0" in cluster_id:  # which PostgreSQL refuses, and no id has
        return None
    query = select(clusters).where(clusters.c.id == cluster_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _cluster(row) if row else None


def with_token(connection: Connection, token: str) -> Cluster | None:
    """The cluster that was made with a token."""
    row = connection.execute(select(clusters).where(clusters.c.token == token)).first()
    return _cluster(row) if row else None


def every(connection: Connection) -> list[Cluster]:
    """All clusters that are not to go, those made last first."""
    query = select(clusters).where(clusters.c.removed.is_(False)).order_by(clusters.c.created_at.desc(), clusters.c.id)
    return [_cluster(row) for row in connection.execute(query.limit(MOST_CLUSTERS))]


def at_work(connection: Connection, server: str) -> list[Cluster]:
    """A server's clusters that have processes, or are to have some, or are to go; the oldest order first."""
    ended = [state.value for state in State if state.ended]
    to_do = or_(clusters.c.state.not_in(ended), clusters.c.removed.is_(True))
    query = select(clusters).where(clusters.c.server == server, to_do).order_by(clusters.c.used_at, clusters.c.id)
    return [_cluster(row) for row in connection.execute(query)]


def lapsed(connection: Connection, before: datetime) -> list[Cluster]:
    """Clusters of servers that have not been heard of since then."""
    ended = [state.value for state in State if state.ended]
    query = select(clusters).where(clusters.c.state.not_in(ended), clusters.c.alive_until < before)
    return [_cluster(row) for row in connection.execute(query)]


def old(connection: Connection, before: datetime, of_jobs_before: datetime) -> list[Cluster]:
    """Clusters that ended before then, and are not pinned; those of jobs before another time."""
    ended = [state.value for state in State if state.ended]
    query = select(clusters).where(
        clusters.c.state.in_(ended), clusters.c.pinned.is_(False),
        or_(
            clusters.c.terminated_at < before,
            (clusters.c.source == Source.JOB) & (clusters.c.terminated_at < of_jobs_before),
        ),
    )  # fmt: skip
    return [_cluster(row) for row in connection.execute(query.limit(500))]


def still_alive(connection: Connection, server: str, until: datetime) -> None:
    """A server says that it lives."""
    ended = [state.value for state in State if state.ended]
    mine = (clusters.c.server == server) & clusters.c.state.not_in(ended)
    connection.execute(update(clusters).where(mine).values(alive_until=until))


def change(connection: Connection, cluster_id: str, **values: Any) -> None:
    """Give a cluster other values."""
    connection.execute(update(clusters).where(clusters.c.id == cluster_id).values(**values))


def move(connection: Connection, cluster: Cluster, to: State, **values: Any) -> bool:
    """Move a cluster on from the state and the start in which it was seen; False where it is not there any more."""
    seen = (clusters.c.id == cluster.id) & (clusters.c.state == cluster.state) & (clusters.c.starts == cluster.starts)
    return bool(connection.execute(update(clusters).where(seen).values(state=to, **values)).rowcount)


def use(connection: Connection, cluster_id: str, at: datetime) -> None:
    """A cluster was used."""
    later = (clusters.c.id == cluster_id) & (clusters.c.used_at < at)
    connection.execute(update(clusters).where(later).values(used_at=at))


def count_of(connection: Connection, creator: str, policy_id: str) -> int:
    """How many all-purpose clusters somebody has under a policy."""
    query = select(clusters.c.spec).where(
        clusters.c.creator == creator, clusters.c.removed.is_(False), clusters.c.source != Source.JOB
    )
    return sum(row.spec.get("policy_id") == policy_id for row in connection.execute(query))


def remove(connection: Connection, cluster_id: str) -> None:
    """Remove a cluster with all that hangs on it but its contexts."""
    for table in (events, libraries):
        connection.execute(delete(table).where(table.c.cluster_id == cluster_id))
    connection.execute(delete(clusters).where(clusters.c.id == cluster_id))


# -- events -----------------------------------------------------------------------------------------------------------


def note(connection: Connection, cluster_id: str, type_: str, **details: Any) -> None:
    """Something happened."""
    connection.execute(insert(events).values(cluster_id=cluster_id, at=utc_now(), type=type_, details=details))
    known = select(events.c.id).where(events.c.cluster_id == cluster_id).order_by(events.c.id.desc())
    first_kept = connection.execute(known.offset(_MOST_EVENTS - 1).limit(1)).scalar()
    if first_kept is not None:
        connection.execute(delete(events).where(events.c.cluster_id == cluster_id, events.c.id < first_kept))


def events_of(
    connection: Connection, cluster_id: str, *, types: Sequence[str], start: datetime | None, end: datetime | None,
    ascending: bool, offset: int, limit: int,
) -> tuple[list[Event], int]:  # fmt: skip
    """Some of a cluster's events, and how many there are."""
    wanted = [events.c.cluster_id == cluster_id]
    wanted += [events.c.type.in_(types)] if types else []
    wanted += [events.c.at >= start] if start else []
    wanted += [events.c.at <= end] if end else []
    total = connection.execute(select(func.count()).select_from(events).where(*wanted)).scalar_one()
    order = events.c.id if ascending else events.c.id.desc()
    rows = connection.execute(select(events).where(*wanted).order_by(order).offset(offset).limit(limit))
    found = [Event(cluster_id=row.cluster_id, at=row.at, type=row.type, details=row.details) for row in rows]
    return found, total


# -- libraries --------------------------------------------------------------------------------------------------------


def libraries_of(connection: Connection, *cluster_ids: str) -> list[Library]:
    """The libraries of clusters, in the order in which they were asked for."""
    query = select(libraries).where(libraries.c.cluster_id.in_(cluster_ids)).order_by(libraries.c.serial)
    return [
        Library(
            cluster_id=row.cluster_id, key=row.key, library=row.library, status=row.status,
            messages=tuple(row.messages), added_by=row.added_by,
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def put_library(connection: Connection, library: Library) -> None:
    """Add a library, or ask for it anew."""
    this = (libraries.c.cluster_id == library.cluster_id) & (libraries.c.key == library.key)
    values: dict[str, Any] = {"status": library.status, "messages": list(library.messages)}
    values["added_by"] = library.added_by
    if not connection.execute(update(libraries).where(this).values(**values)).rowcount:
        last = select(func.coalesce(func.max(libraries.c.serial), 0)).where(
            libraries.c.cluster_id == library.cluster_id
        )
        serial = connection.execute(last).scalar_one() + 1
        values |= {"cluster_id": library.cluster_id, "key": library.key, "library": dict(library.library)}
        connection.execute(insert(libraries).values(serial=serial, **values))


def set_library(connection: Connection, library: Library, status: str, *messages: str) -> None:
    """How a library stands."""
    this = (libraries.c.cluster_id == library.cluster_id) & (libraries.c.key == library.key)
    same = this & (libraries.c.status == library.status)
    connection.execute(update(libraries).where(same).values(status=status, messages=list(messages)))


def remove_library(connection: Connection, cluster_id: str, key: str) -> None:
    """Remove a library."""
    this = (libraries.c.cluster_id == cluster_id) & (libraries.c.key == key)
    connection.execute(delete(libraries).where(this))


def _cluster(row: Any) -> Cluster:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Cluster(**{**values, "source": Source(row.source), "state": State(row.state)})
