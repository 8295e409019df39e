"""What tasks of jobs read and wrote: for a run what it did, for a table which jobs use it.

A row for each task run and node, and one for each job and node, which tells of the last run; so neither question
looks at events, of which there are many. Who did it is what the credential said (`identity.domain.Work`).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    String,
    Table,
    and_,
    delete,
    insert,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from millpond.identity.domain import Principal, Work
from millpond.kernel.clock import utc_now
from millpond.kernel.database import UtcDateTime, metadata
from millpond.lineage.domain import Known, NodeKind, Observation, SeenNode, Way, digest

JobNames = Callable[[Principal, Collection[Work]], Mapping[Work, str]]
"""Of some works those whose jobs a principal may see, with the jobs' names."""
MOST_OF_RUN = 1000
MOST_JOBS = 100
PAGE = 500
_TASK = "task"
JOB, RUN = "job", "run"
"""A run that has no job is its own."""

uses = Table(
    "lineage_job_uses",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("per", String(4), nullable=False),
    Column("job_id", BigInteger),
    Column("run_id", BigInteger, nullable=False),
    Column("task_run_id", BigInteger, nullable=False),
    Column("node_id", String(32), nullable=False),
    Column("way", String(5), nullable=False),
    Column("operation", String(60), nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Index("ix_lineage_job_uses_run_id_per", "run_id", "per"),
    Index("ix_lineage_job_uses_node_id_per_last_seen", "node_id", "per", "last_seen"),
)
"""`per` is whose row it is: a task run's, and a job's or, where that has none, a run's."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task did with a node."""

    work: Work
    way: Way
    operation: str
    """The last one."""
    last_seen: datetime
    node_id: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Touched:
    """The same, for whoever may see the node."""

    done: Done
    node: SeenNode


@dataclass(frozen=True, kw_only=True)
class UsedBy:
    """The same, for whoever may see the job, or the run that has none."""

    done: Done
    job: str
    """What it is called."""


def put(connection: Connection, observation: Observation) -> None:
    """Note who did what was observed, where it was a task of a job; what a client says is still to come is now."""
    act, told = observation.act, observation.act.work
    if told is None:
        return
    found = [] if act.known is Known.PARSED else [(node, Way.READ) for node in observation.sources]
    found += [(observation.target, Way.WRITE)] if observation.target else []
    own = {JOB: f"job {told.job_id}"} if told.job_id else {RUN: f"run {told.run_id}"}
    holders = {_TASK: f"task {told.task_run_id}"} | own
    rows = {
        (row_id := digest(per, holder, node.id, way.value)): {
            "id": row_id, "per": per, "node_id": node.id, "way": way.value, "operation": act.operation[:60],
            "last_seen": min(act.time, utc_now()), **vars(told),
        }
        for node, way in found if node.kind is not NodeKind.RUN
        for per, holder in holders.items()
    }  # fmt: skip
    if rows:
        made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(uses)
        renewed = {name: made.excluded[name] for name in ("run_id", "task_run_id", "operation", "last_seen")}
        later = made.excluded.last_seen >= uses.c.last_seen  # notes of several processes come in any order
        statement = made.on_conflict_do_update(index_elements=["id"], set_=renewed, where=later)
        connection.execute(statement, [rows[each] for each in sorted(rows)])


def of_run(connection: Connection, run_id: int) -> tuple[list[Done], bool]:
    """What the tasks of a run did, what they did last first; at most 1000, and whether there is more."""
    done = _done(connection, MOST_OF_RUN + 1, uses.c.run_id == run_id, uses.c.per == _TASK)
    return done[:MOST_OF_RUN], len(done) > MOST_OF_RUN


def of_node(connection: Connection, node_id: str, per: str, before: Done | None = None) -> list[Done]:
    """The last that each job did with a node, or each run without a job, the newest first: 500, those `before` one."""
    which = [uses.c.node_id == node_id, uses.c.per == per]
    if before is not None:
        same_time = and_(uses.c.last_seen == before.last_seen, uses.c.id > before.id)
        which.append(or_(uses.c.last_seen < before.last_seen, same_time))
    return _done(connection, PAGE, *which)


def forget(connection: Connection, run_ids: Collection[int]) -> None:
    """Remove what runs did, that are removed. Of a job it is told then what the last of its other runs did, if any."""
    of_runs = uses.c.run_id.in_(run_ids)
    jobs = connection.execute(select(uses).where(of_runs, uses.c.per == JOB)).all()
    connection.execute(delete(uses).where(of_runs))
    for row in jobs:
        same = (uses.c.node_id == row.node_id, uses.c.job_id == row.job_id, uses.c.way == row.way)
        query = select(uses).where(uses.c.per == _TASK, *same).order_by(uses.c.last_seen.desc(), uses.c.id).limit(1)
        if (last := connection.execute(query).first()) is not None:
            connection.execute(insert(uses).values({**last._mapping, "id": row.id, "per": JOB}))


def _done(connection: Connection, limit: int, *which: ColumnElement[bool]) -> list[Done]:
    query = select(uses).where(*which).order_by(uses.c.last_seen.desc(), uses.c.id).limit(limit)
    return [
        Done(
            work=Work(job_id=row.job_id, run_id=row.run_id, task_run_id=row.task_run_id),
            way=Way(row.way), operation=row.operation, last_seen=row.last_seen, node_id=row.node_id,
            id=row.id,
        )
        for row in connection.execute(query)
    ]  # fmt: skip
