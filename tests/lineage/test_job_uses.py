"""What is kept of what jobs did with tables."""

from dataclasses import replace
from datetime import datetime, timedelta

from millpond.identity.domain import Work
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.lineage import job_uses
from millpond.lineage.job_uses import Done
from millpond.lineage.service import record_in
from tests.lineage.observations import inserted, table


def did(database: Database, run_id: int, time: datetime, *, job_id: int | None = 1, source: str = "a") -> None:
    """A run's task reads a table."""
    seen = inserted(f"{run_id} {source}", source, "b")
    work = Work(job_id=job_id, run_id=run_id, task_run_id=run_id + 1)
    with database.write() as connection:
        record_in(connection, [replace(seen, act=replace(seen.act, time=time, work=work))])


def of(database: Database, name: str = "a") -> list[Done]:
    with database.read() as connection:
        return job_uses.of_node(connection, table(name).id)


def test_the_last_run_of_a_job_is_the_one_that_did_it_last(database: Database) -> None:
    now = utc_now()
    did(database, 10, now)
    did(database, 20, now - timedelta(hours=1))
    assert [each.work.run_id for each in of(database)] == [10]
    did(database, 30, now.replace(year=9999))
    assert [each.work.run_id for each in of(database)] == [30]
    did(database, 40, utc_now(), job_id=2)
    assert [each.work.run_id for each in of(database)] == [40, 30]
