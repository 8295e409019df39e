"""The table of what triggers watch, and its SQL."""

from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, Text, delete, insert, select, update

from millpond.jobs.watching import Watch
from millpond.kernel.database import Json, UtcDateTime, metadata

watches = Table(
    "job_watches",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("serial", Integer, nullable=False),
    Column("known", Json, nullable=False),
    Column("pending", Json, nullable=False),
    Column("changed_at", UtcDateTime),
    Column("looked_at", UtcDateTime),
    Column("outcome", Text, nullable=False),
    Column("failed_at", UtcDateTime),
    Column("error", Text, nullable=False),
    Column("fired_at", UtcDateTime),
    Column("run_id", BigInteger),
)


def put_watch(connection: Connection, watch: Watch | None, job_id: int) -> None:
    """Begin a job's watch anew, or end it."""
    connection.execute(delete(watches).where(watches.c.job_id == job_id))
    if watch is not None:
        connection.execute(insert(watches).values(**vars(watch)))


def find_watch(connection: Connection, job_id: int, *, lock: bool = False) -> Watch | None:
    """A job's watch; `lock` keeps others from changing it until the transaction ends."""
    query = select(watches).where(watches.c.job_id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Watch(**row._mapping) if row else None


def change_watch(connection: Connection, before: Watch, after: Watch) -> None:
    """Write what has changed of a watch that is locked."""
    values: dict[str, Any] = {key: value for key, value in vars(after).items() if value != getattr(before, key)}
    if values:
        connection.execute(update(watches).where(watches.c.job_id == before.job_id).values(**values))
