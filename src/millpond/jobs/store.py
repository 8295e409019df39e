"""The tables of jobs and all their SQL."""

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from millpond.jobs.domain import Glance, Job, Place, Result, Run, State, TaskRun
from millpond.jobs.triggers import WATCHING, When
from millpond.kernel.clock import epoch_us
from millpond.kernel.database import Json, UtcDateTime, metadata

_MOST_ACTIVE = 1000
_HELD = f"state = '{State.RUNNING.value}' AND lease <> ''"

jobs = Table(
    "job_definitions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(4096), nullable=False),
    Column("creator", String(255), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("settings", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("trigger_kind", String(20), nullable=False),
    Column("next_fire_at", UtcDateTime),
    Index("ix_job_definitions_next_fire_at", "next_fire_at"),
)
"""Not `jobs`, which MLflow has in the same database."""
runs = Table(
    "job_runs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", BigInteger),
    Column("name", String(4096), nullable=False),
    Column("creator", String(255), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("settings", Json, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("token", String(255)),
    Column("state", String(20), nullable=False),
    Column("result", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("parent_run_id", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("repairs", Json, nullable=False),
    Column("told", Json, nullable=False),
    Column("due_at", UtcDateTime),
    Column("slow_told", Boolean, nullable=False),
    Column("pipeline_id", String(36)),
    UniqueConstraint("token", name="uq_job_runs_token"),
    Index("ix_job_runs_job_id", "job_id"),
    Index("ix_job_runs_state", "state"),
    Index("ix_job_runs_due_at", "due_at"),
    Index("ix_job_runs_pipeline_id", "pipeline_id"),
)
"""`token` makes a run the only one: a client's idempotency token under its job or user, or a job's fire time."""
tasks = Table(
    "job_task_runs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", BigInteger, nullable=False),
    Column("key", String(255), nullable=False),
    Column("parent_id", BigInteger),
    Column("iteration", Integer),
    Column("input", Json),
    Column("attempt", Integer, nullable=False),
    Column("retry", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("result", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Column("order", Json, nullable=False),
    Column("outcome", String(10), nullable=False),
    Column("child_run_id", BigInteger),
    Column("task_values", Json, nullable=False),
    Column("error", Text, nullable=False),
    Column("due_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("began_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("slow_told", Boolean, nullable=False),
    Column("server", String(36), nullable=False),
    Column("worker", String(36), nullable=False),
    Column("machine", String(255), nullable=False),
    Column("place", String(10), nullable=False),
    Column("cluster_id", String(40), nullable=False),
    Column("lease", String(36), nullable=False),
    Column("loan", String(36), nullable=False),
    Column("leased_until", UtcDateTime),
    Index("ix_job_task_runs_run_id_parent_id", "run_id", "parent_id"),
    Index("ix_job_task_runs_state", "state"),
    Index("uq_job_task_runs_lease", "lease", unique=True, sqlite_where=text(_HELD), postgresql_where=text(_HELD)),
)

_OPEN = runs.c.state != State.ENDED.value
_numbers = threading.Lock()
_last = [0]


def new_number() -> int:
    """An id of a job, a run or a task run, unique among all: microseconds since 1970, which JSON's numbers hold."""
    with _numbers:
        _last[0] = max(time.time_ns() // 1000, _last[0] + 1)
        return _last[0]


# -- jobs ---------------------------------------------------------------------------------------------------------


def add_job(connection: Connection, job: Job) -> None:
    """Add a job."""
    connection.execute(insert(jobs).values(**vars(job)))


def find_job(connection: Connection, job_id: int, *, lock: bool = False) -> Job | None:
    """The job with an id; `lock` keeps others from changing it until the transaction ends."""
    query = select(jobs).where(jobs.c.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _job(row) if row else None


def list_jobs(connection: Connection, *, name: str | None, before: int | None, limit: int) -> list[Job]:
    """Jobs, the newest first, below an id."""
    query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(func.lower(jobs.c.name) == name.lower())
    if before is not None:
        query = query.where(jobs.c.id < before)
    return [_job(row) for row in connection.execute(query)]


def find_jobs(connection: Connection, *, text: str, owner: str, before: int | None, limit: int) -> list[Job]:
    """Jobs with a text in their names, and of an owner, the newest first, below an id."""
    query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if text:
        query = query.where(jobs.c.name.icontains(text, autoescape=True))
    if owner:
        query = query.where(func.lower(jobs.c.creator) == owner.lower())
    if before is not None:
        query = query.where(jobs.c.id < before)
    return [_job(row) for row in connection.execute(query)]


def jobs_with_ids(connection: Connection, job_ids: Collection[int]) -> list[Job]:
    """Those of some jobs that there are."""
    return [_job(row) for row in connection.execute(select(jobs).where(jobs.c.id.in_(job_ids)))]


def change_job(connection: Connection, job_id: int, **values: Any) -> None:
    """Set columns of a job."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def delete_job(connection: Connection, job_id: int) -> None:
    """Remove a job; its runs stay."""
    connection.execute(delete(jobs).where(jobs.c.id == job_id))


def due_jobs(connection: Connection, now: datetime, *, watching: bool, lock: bool = False) -> list[Job]:
    """Jobs whose time has come, to start a run or to be looked for; on PostgreSQL not those another server is at."""
    watches = jobs.c.trigger_kind.in_(sorted(WATCHING))
    busy = exists().where(runs.c.job_id == jobs.c.id, _OPEN)
    free = or_(jobs.c.trigger_kind != When.CONTINUOUS.value, ~busy)
    query = select(jobs).where(jobs.c.next_fire_at <= now, watches if watching else and_(~watches, free))
    query = query.order_by(jobs.c.next_fire_at).limit(100)
    rows = connection.execute(query.with_for_update(skip_locked=True) if lock else query)
    return [_job(row) for row in rows]


def jobs_watching(connection: Connection, kind: str) -> list[Job]:
    """Jobs with a kind of trigger, in the order in which all lock them."""
    query = select(jobs).where(jobs.c.trigger_kind == kind).order_by(jobs.c.id)
    return [_job(row) for row in connection.execute(query)]


# -- runs ---------------------------------------------------------------------------------------------------------


def add_run(connection: Connection, run: Run, token: str | None) -> int:
    """Add a run, and return its id: that of the one before it with the same token, where there is one."""
    values = {**vars(run), "repairs": list(run.repairs), "token": token}
    made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(runs)
    connection.execute(made.values(values).on_conflict_do_nothing(index_elements=["token"]))
    same = runs.c.id == run.id if token is None else runs.c.token == token
    return int(connection.execute(select(runs.c.id).where(same)).scalar_one())


def is_token_used(connection: Connection, token: str | None) -> bool:
    """Whether there is a run with a token."""
    return token is not None and connection.execute(select(runs.c.id).where(runs.c.token == token)).first() is not None


def find_run(connection: Connection, run_id: int, *, lock: bool = False) -> Run | None:
    """The run with an id; `lock` makes this transaction the only one that moves it on."""
    query = select(runs).where(runs.c.id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _run(row) if row else None


def list_runs(
    connection: Connection,
    *,
    job_id: int | None,
    active: bool | None,
    since: datetime | None,
    until: datetime | None,
    submitted: bool | None,
    before: int | None,
    limit: int,
) -> list[Run]:
    """Runs but those of pipelines, the newest first, below an id."""
    query = select(runs).where(runs.c.pipeline_id.is_(None)).order_by(runs.c.id.desc()).limit(limit)
    wanted = (
        None if job_id is None else runs.c.job_id == job_id,
        None if active is None else (_OPEN if active else ~_OPEN),
        None if since is None else runs.c.created_at >= since,
        None if until is None else runs.c.created_at <= until,
        None if submitted is None else (runs.c.job_id.is_(None) if submitted else runs.c.job_id.is_not(None)),
        None if before is None else runs.c.id < before,
    )
    query = query.where(*(each for each in wanted if each is not None))
    return [_run(row) for row in connection.execute(query)]


_GLANCE = tuple(runs.c[field.name] for field in fields(Glance) if field.name != "job_owner")


def glances(
    connection: Connection, *, job_id: int | None, active: bool | None, before: int | None, limit: int
) -> list[Glance]:
    """Runs but those of pipelines, without what they are made of, the newest first, below an id."""
    query = select(*_GLANCE, jobs.c.creator.label("job_owner")).outerjoin(jobs, jobs.c.id == runs.c.job_id)
    query = query.where(runs.c.pipeline_id.is_(None))
    wanted = (
        None if job_id is None else runs.c.job_id == job_id,
        None if active is None else (_OPEN if active else ~_OPEN),
        None if before is None else runs.c.id < before,
    )
    query = query.where(*(each for each in wanted if each is not None)).order_by(runs.c.id.desc()).limit(limit)
    return [_glance(row) for row in connection.execute(query)]


def glances_with_ids(connection: Connection, run_ids: Collection[int]) -> list[Glance]:
    """Those of some runs that there are."""
    query = select(*_GLANCE, jobs.c.creator.label("job_owner")).outerjoin(jobs, jobs.c.id == runs.c.job_id)
    return [_glance(row) for row in connection.execute(query.where(runs.c.id.in_(run_ids)))]


def latest_glances(connection: Connection, job_ids: Sequence[int], each: int) -> list[Glance]:
    """The last runs of each of some jobs, the newest first."""
    place = func.row_number().over(partition_by=runs.c.job_id, order_by=runs.c.id.desc()).label("place")
    placed = select(runs.c.id, place).where(runs.c.job_id.in_(job_ids)).subquery()
    query = (
        select(*_GLANCE, jobs.c.creator.label("job_owner"))
        .join(placed, placed.c.id == runs.c.id)
        .outerjoin(jobs, jobs.c.id == runs.c.job_id)
        .where(placed.c.place <= each)
        .order_by(runs.c.id.desc())
    )
    return [_glance(row) for row in connection.execute(query)]


def open_runs(connection: Connection, *, job_id: int | None = None) -> list[Run]:
    """Runs that have not ended, the oldest first."""
    query = select(runs).where(_OPEN).order_by(runs.c.id).limit(_MOST_ACTIVE)
    if job_id is not None:
        query = query.where(runs.c.job_id == job_id)
    return [_run(row) for row in connection.execute(query)]


def due_runs(connection: Connection, now: datetime, limit: int) -> list[int]:
    """The ids of runs that are to be looked at, those first that have waited longest."""
    query = select(runs.c.id).where(runs.c.due_at <= now).order_by(runs.c.due_at).limit(limit)
    return list(connection.execute(query).scalars())


def all_due(connection: Connection, now: datetime) -> None:
    """Have all open runs looked at, as somebody may have died before they were moved on."""
    connection.execute(update(runs).where(_OPEN).values(due_at=now))


def count_running(connection: Connection, job_id: int) -> int:
    """Runs of a job that have begun and not ended."""
    query = select(func.count()).where(runs.c.job_id == job_id, runs.c.state == State.RUNNING.value)
    return int(connection.execute(query.select_from(runs)).scalar_one())


def first_queued(connection: Connection, job_id: int) -> int | None:
    """The run of a job that has waited longest for its turn."""
    query = select(func.min(runs.c.id)).where(runs.c.job_id == job_id, runs.c.state == State.QUEUED.value)
    found: int | None = connection.execute(query).scalar_one()
    return found


def last_runs(connection: Connection, job_id: int, limit: int) -> list[tuple[int, Result, datetime | None]]:
    """Id, result and end of a job's newest runs."""
    query = select(runs.c.id, runs.c.result, runs.c.ended_at).where(runs.c.job_id == job_id)
    rows = connection.execute(query.order_by(runs.c.id.desc()).limit(limit))
    return [(row.id, Result(row.result), row.ended_at) for row in rows]


def change_run(connection: Connection, run_id: int, **values: Any) -> None:
    """Set columns of a run."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def pin(connection: Connection, run_id: int, commit: str) -> str:
    """The commit of a run's repository: this one, where it has none yet."""
    run = find_run(connection, run_id, lock=True)
    if run is None:
        return commit
    source = run.settings["git_source"]
    known = source.get("git_snapshot")
    if known is None:
        told = {**run.settings, "git_source": {**source, "git_snapshot": {"used_commit": commit}}}
        change_run(connection, run_id, settings=told)
    return str(known["used_commit"]) if known else commit


def give_runs(connection: Connection, pipeline_id: str, creator: str) -> None:
    """Have the runs of a pipeline be somebody else's."""
    connection.execute(update(runs).where(runs.c.pipeline_id == pipeline_id).values(creator=creator))


def delete_run(connection: Connection, run_id: int) -> None:
    """Remove a run and its tasks' runs."""
    connection.execute(delete(tasks).where(tasks.c.run_id == run_id))
    connection.execute(delete(runs).where(runs.c.id == run_id))


def rest(connection: Connection, run_id: int) -> None:
    """Have a run that has ended looked at no more, whoever asked for it meanwhile."""
    connection.execute(update(runs).where(runs.c.id == run_id, ~_OPEN).values(due_at=None))


def look_by(connection: Connection, run_id: int, moment: datetime) -> None:
    """Have a run looked at by a moment, if it is not before."""
    connection.execute(update(runs).where(runs.c.id == run_id, runs.c.due_at > moment).values(due_at=moment))


def old_runs(connection: Connection, before: datetime, limit: int) -> list[int]:
    """The ids of runs that ended before a moment; ids are microseconds, so only old rows are looked at."""
    query = select(runs.c.id).where(runs.c.id < epoch_us(before), runs.c.ended_at < before)
    return list(connection.execute(query.order_by(runs.c.id).limit(limit)).scalars())


# -- task runs ----------------------------------------------------------------------------------------------------


def add_tasks(connection: Connection, made: Sequence[TaskRun]) -> None:
    """Add attempts."""
    if made:
        connection.execute(insert(tasks), [dict(vars(task)) for task in made])


def find_task(connection: Connection, task_id: int) -> TaskRun | None:
    """The task run with an id."""
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
    return as_task(row) if row else None


def tasks_of(connection: Connection, *run_ids: int, lock: bool = False) -> list[TaskRun]:
    """All attempts of runs, the oldest first; `lock` keeps them from being claimed and ended meanwhile."""
    query = select(tasks).where(tasks.c.run_id.in_(run_ids)).order_by(tasks.c.id)
    return [as_task(row) for row in connection.execute(query.with_for_update() if lock else query)]


def top_tasks_of(connection: Connection, run_id: int) -> list[TaskRun]:
    """All attempts of a run without iterations, the oldest first."""
    query = select(tasks).where(tasks.c.run_id == run_id, tasks.c.parent_id.is_(None)).order_by(tasks.c.id)
    return [as_task(row) for row in connection.execute(query)]


def iterations_of(connection: Connection, task_id: int) -> list[TaskRun]:
    """All attempts at the iterations of a task run, the oldest first."""
    run_id = select(tasks.c.run_id).where(tasks.c.id == task_id).scalar_subquery()  # which has an index
    query = select(tasks).where(tasks.c.run_id == run_id, tasks.c.parent_id == task_id).order_by(tasks.c.id)
    return [as_task(row) for row in connection.execute(query)]


def states_of(connection: Connection, run_ids: Sequence[int]) -> list[tuple[int, str, State, Result]]:
    """How each attempt at each task of some runs stands, without iterations, the first attempts first."""
    columns = (tasks.c.run_id, tasks.c.key, tasks.c.state, tasks.c.result)
    query = select(*columns).where(tasks.c.run_id.in_(run_ids), tasks.c.parent_id.is_(None)).order_by(tasks.c.attempt)
    return [(run_id, key, State(state), Result(result)) for run_id, key, state, result in connection.execute(query)]


def keys_of(connection: Connection, run_id: int) -> dict[int, str]:
    """The keys of all attempts of a run; of an iteration, that of its `for_each_task`."""
    query = select(tasks.c.id, tasks.c.key, tasks.c.parent_id).where(tasks.c.run_id == run_id)
    rows = connection.execute(query).all()
    keys = {row.id: row.key for row in rows}
    return {row.id: keys.get(row.parent_id, row.key) for row in rows}


def put_task(connection: Connection, task: TaskRun) -> None:
    """Write a task run's columns as they are; only under its run's lock, and never while somebody has its lease."""
    connection.execute(update(tasks).where(tasks.c.id == task.id).values(**vars(task)))


def not_ended(connection: Connection, task_ids: Sequence[int]) -> set[int]:
    """Those of some tasks of which something becomes still."""
    query = select(tasks.c.id).where(tasks.c.id.in_(task_ids), tasks.c.state != State.ENDED.value)
    return set(connection.execute(query).scalars())


def told_slow(connection: Connection, task_id: int) -> None:
    """Note that somebody was told that a task takes long, also while somebody has its lease."""
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(slow_told=True))


def count_running_tasks(connection: Connection, run_as: Collection[str]) -> int:
    """The tasks that run as any of some users; what only waits for others, as `for_each_task`, is none."""
    query = select(func.count()).select_from(tasks.join(runs, runs.c.id == tasks.c.run_id))
    running = (tasks.c.state == State.RUNNING.value, tasks.c.lease != "", runs.c.run_as.in_(run_as))
    return int(connection.execute(query.where(*running)).scalar_one())


def whose_tasks_wait(connection: Connection) -> list[str]:
    """Users as whom the tasks run that wait for a process."""
    query = select(runs.c.run_as).join(tasks, runs.c.id == tasks.c.run_id).where(tasks.c.state == State.QUEUED.value)
    return list(connection.execute(query.distinct()).scalars())


def job_of(connection: Connection, run_id: int) -> int | None:
    """The job of a run."""
    found: int | None = connection.execute(select(runs.c.job_id).where(runs.c.id == run_id)).scalar()
    return found


def wants_end(connection: Connection, run_id: int, now: datetime) -> Result:
    """Why a run's processes are to end, if they are; a run that is gone is cancelled."""
    run = find_run(connection, run_id)
    return Result.CANCELED if run is None else run.stopping(now)


def _job(row: Any) -> Job:
    return Job(**row._mapping)


def _run(row: Any) -> Run:
    known = {name: value for name, value in row._mapping.items() if name != "token"}
    changed = {"state": State(row.state), "result": Result(row.result), "repairs": tuple(row.repairs)}
    return Run(**{**known, **changed})


def _glance(row: Any) -> Glance:
    return Glance(**{**row._mapping, "state": State(row.state), "result": Result(row.result)})


def as_task(row: Any) -> TaskRun:
    """A row of the table."""
    known = {"state": State(row.state), "result": Result(row.result), "place": Place(row.place)}
    return TaskRun(**{**row._mapping, **known})
