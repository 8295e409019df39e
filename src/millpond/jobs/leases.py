"""Who holds a task run: only they write how it ended, and for no longer than they say that they live.

A task's tokens hang on a loan that begins and ends with the lease, in the same transactions, whoever ends it. Its id is
ours: a worker makes up its leases itself.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from millpond.identity.service import begin_loan_of, end_loan
from millpond.jobs.domain import Place, State, TaskRun
from millpond.jobs.store import as_task, runs, tasks
from millpond.kernel.ids import new_id

_MOST_LOST = 1000


def claim(
    connection: Connection, now: datetime, lease: str, until: datetime, *, places: Sequence[Place],
    ready: Sequence[int] = (), server: str = "", worker: str = "", machine: str = "",
    but: Collection[str] = (),
) -> TaskRun | None:  # fmt: skip
    """The task that has waited longest for a process in one of some places, or is `ready`, leased; `but` those that run
    as some users."""
    query = select(tasks).where(_waits(places, ready)).order_by(tasks.c.id).limit(1)
    if but:
        query = query.where(tasks.c.run_id.not_in(select(runs.c.id).where(runs.c.run_as.in_(but))))
    row = connection.execute(query.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    loan = new_id()
    values = {"state": State.RUNNING, "lease": lease, "loan": loan, "leased_until": until, "server": server,
              "worker": worker, "machine": machine, "message": "", "started_at": row.started_at or now}  # fmt: skip
    connection.execute(update(tasks).where(tasks.c.id == row.id).values(**values))
    run_as = connection.execute(select(runs.c.run_as).where(runs.c.id == row.run_id)).scalar()
    if run_as is not None:
        begin_loan_of(connection, run_as, loan, by=f"task run {row.id}")
    return as_task(connection.execute(select(tasks).where(tasks.c.id == row.id)).one())


def any_waits(connection: Connection, places: Sequence[Place], ready: Sequence[int] = ()) -> bool:
    """Whether there is something to claim; takes no lock."""
    return connection.execute(select(tasks.c.id).where(_waits(places, ready)).limit(1)).first() is not None


def _waits(places: Sequence[Place], ready: Sequence[int]) -> ColumnElement[bool]:
    return and_(tasks.c.state == State.QUEUED.value, or_(tasks.c.place.in_(places), tasks.c.id.in_(ready)))


def assigned(connection: Connection, limit: int) -> dict[int, str]:
    """Tasks that wait for their clusters, with these; those that have waited longest."""
    waiting = (tasks.c.state == State.QUEUED.value, tasks.c.place.in_((Place.ASSIGNED, Place.STARTED)))
    rows = connection.execute(select(tasks.c.id, tasks.c.cluster_id).where(*waiting).order_by(tasks.c.id).limit(limit))
    return {row.id: row.cluster_id for row in rows}


def give_back(connection: Connection, task: TaskRun, **values: Any) -> bool:
    """Let others take a task whose lease one has; False where one has it no more, or its code has begun."""
    again = {"state": State.QUEUED, "lease": "", "leased_until": None, "started_at": None, "worker": "", "machine": ""}
    return end(connection, task, tasks.c.began_at.is_(None), **again, **values)


def take_over(
    connection: Connection, task: TaskRun, until: datetime, *, lapsed: datetime | None = None
) -> TaskRun | None:
    """Hold a task in place of whoever holds it, who can do nothing with it from then on. None where somebody else has
    it by now, or its lease has not ended before `lapsed`."""
    also = () if lapsed is None else (tasks.c.leased_until < lapsed,)
    lease = new_id()
    taken = end(connection, task, *also, lease=lease, leased_until=until)
    return of_lease(connection, lease) if taken else None


def of_lease(connection: Connection, lease: str) -> TaskRun | None:
    """The task that is held by a lease."""
    held = (tasks.c.state == State.RUNNING.value, tasks.c.lease == lease)
    row = connection.execute(select(tasks).where(*held)).first() if lease else None
    return as_task(row) if row else None


def of_worker(connection: Connection, worker: str) -> list[TaskRun]:
    """The tasks that a worker holds."""
    held = (tasks.c.state == State.RUNNING.value, tasks.c.worker == worker)
    return [as_task(row) for row in connection.execute(select(tasks).where(*held))]


def end(connection: Connection, task: TaskRun, *also: ColumnElement[bool], **values: Any) -> bool:
    """Set columns of a task whose lease one has, when one has it no more after that; else as `write_held`."""
    held = write_held(connection, task.id, task.lease, *also, **values)
    if held:
        end_loan(connection, task.loan)
    return held


def write_held(connection: Connection, task_id: int, holder: str, *also: ColumnElement[bool], **values: Any) -> bool:
    """Set columns of a running task whose lease one has; False where one has it no more, or `also` is not so."""
    held = (tasks.c.id == task_id, tasks.c.lease == holder, tasks.c.state == State.RUNNING.value, *also)
    return bool(connection.execute(update(tasks).where(*held).values(**values)).rowcount)


def lost(connection: Connection, now: datetime, server: str, others: datetime) -> list[TaskRun]:
    """Tasks whose holder has not renewed its lease, of this server and of workers; those of other servers, where that
    ended before `others`."""
    ours = and_(or_(_of(server), tasks.c.worker != ""), tasks.c.leased_until < now)
    query = select(tasks).where(tasks.c.state == State.RUNNING.value, or_(ours, tasks.c.leased_until < others))
    return [as_task(row) for row in connection.execute(query.limit(_MOST_LOST))]


def release_all(connection: Connection, now: datetime, server: str) -> None:
    """Say that what held leases in a server's name is dead."""
    held = (tasks.c.state == State.RUNNING.value, tasks.c.leased_until.is_not(None), _of(server))
    connection.execute(update(tasks).where(*held).values(leased_until=now))


def _of(server: str) -> ColumnElement[bool]:
    """Tasks of a server itself; those of before servers had names are everybody's."""
    return and_(tasks.c.server.in_(["", server]), tasks.c.worker == "")
