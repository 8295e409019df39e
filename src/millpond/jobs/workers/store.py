"""The tables of workers and of what their tasks print and leave, and all their SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from millpond.jobs.domain import State
from millpond.jobs.store import tasks
from millpond.jobs.workers.domain import LONGEST_PART, Worker
from millpond.kernel.database import UtcDateTime, metadata

_MOST_WORKERS = 1000

workers = Table(
    "job_workers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("account", String(255), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("version", String(40), nullable=False),
    Column("address", String(64), nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("came_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)
parts = Table(
    "job_task_parts",
    metadata,
    Column("task_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(40), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)


def find(connection: Connection, worker_id: str, *, lock: bool = False) -> Worker | None:
    """The worker with an id."""
    query = select(workers).where(workers.c.id == worker_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Worker(**row._mapping) if row else None


def put(connection: Connection, worker: Worker) -> None:
    """Add a worker, or write it anew."""
    remove(connection, worker.id)
    connection.execute(insert(workers).values(**vars(worker)))


def change(connection: Connection, worker_id: str, **values: Any) -> None:
    """Set columns of a worker."""
    connection.execute(update(workers).where(workers.c.id == worker_id).values(**values))


def remove(connection: Connection, worker_id: str) -> None:
    """Forget a worker."""
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def remove_unseen(connection: Connection, before: datetime) -> None:
    """Forget workers that were not seen for long."""
    connection.execute(delete(workers).where(workers.c.seen_at < before))


def every(connection: Connection) -> list[tuple[Worker, int]]:
    """All workers by name, with how many tasks each has."""
    held = (tasks.c.state == State.RUNNING.value, tasks.c.worker != "")
    counts = select(tasks.c.worker, func.count()).where(*held).group_by(tasks.c.worker)
    busy: dict[str, int] = {row[0]: row[1] for row in connection.execute(counts)}
    rows = connection.execute(select(workers).order_by(workers.c.name, workers.c.id).limit(_MOST_WORKERS))
    return [(Worker(**row._mapping), busy.get(row.id, 0)) for row in rows]


# -- what tasks print and leave -----------------------------------------------------------------------------------


def size_of(connection: Connection, task_id: int, name: str) -> int:
    """Bytes of an output that were told."""
    query = select(parts.c.start, func.length(parts.c.data)).where(parts.c.task_id == task_id, parts.c.name == name)
    last = connection.execute(query.order_by(parts.c.start.desc()).limit(1)).first()
    return int(last[0]) + int(last[1]) if last else 0


def is_told(connection: Connection, task_id: int, name: str) -> bool:
    """Whether any of an output was told, if only that it is empty."""
    query = select(parts.c.start).where(parts.c.task_id == task_id, parts.c.name == name)
    return connection.execute(query.limit(1)).first() is not None


def add_part(connection: Connection, task_id: int, name: str, start: int, data: bytes) -> None:
    """Add the next bytes of an output; at 0 it begins anew."""
    if start == 0:
        connection.execute(delete(parts).where(parts.c.task_id == task_id, parts.c.name == name))
    connection.execute(insert(parts).values(task_id=task_id, name=name, start=start, data=data))


def rename(connection: Connection, task_id: int, before: str, name: str) -> None:
    """Let an output be that of a name, in place of what was."""
    connection.execute(delete(parts).where(parts.c.task_id == task_id, parts.c.name == name))
    connection.execute(update(parts).where(parts.c.task_id == task_id, parts.c.name == before).values(name=name))


def read(connection: Connection, task_id: int, name: str, start: int, most_bytes: int) -> bytes:
    """Some bytes of an output."""
    near = (parts.c.start > start - LONGEST_PART, parts.c.start < start + most_bytes)
    query = select(parts.c.start, parts.c.data).where(parts.c.task_id == task_id, parts.c.name == name, *near)
    rows = connection.execute(query.order_by(parts.c.start)).all()
    if not rows:
        return b""
    skip = max(0, start - rows[0].start)
    return b"".join(bytes(row.data) for row in rows)[skip : skip + most_bytes]


def forget(connection: Connection, task_ids: Sequence[int]) -> None:
    """Remove all that tasks printed and left."""
    if task_ids:
        connection.execute(delete(parts).where(parts.c.task_id.in_(task_ids)))
