"""What is kept of what jobs did with tables."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from millpond.identity.domain import Principal, PrincipalKind, Work
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.lineage import job_uses
from millpond.lineage.domain import Observation, SeenNode
from millpond.lineage.job_uses import Done
from millpond.lineage.service import LineageService, forget_runs, record_in
from tests.lineage.observations import inserted, table

ANN = Principal(id="1", name="ann", kind=PrincipalKind.USER, is_admin=False)
NOTHING: Any = None


def did(database: Database, run_id: int, time: datetime, *, job_id: int | None = 1, task: int = 0) -> None:
    """A run's task reads a table."""
    with database.write() as connection:
        record_in(connection, [reading(Work(job_id=job_id, run_id=run_id, task_run_id=run_id + task), time)])


def reading(work: Work, time: datetime) -> Observation:
    seen = inserted(str(work), "a", "b")
    return replace(seen, act=replace(seen.act, time=time, work=work))


def of(database: Database) -> list[Done]:
    with database.read() as connection:
        return job_uses.of_node(connection, table("a").id, job_uses.JOB)


def named(works: Collection[Work]) -> dict[Work, str]:
    """What Ann may see: jobs with even numbers, and runs without a job."""
    return {each: str(each.job_id or each.run_id) for each in works if not each.job_id or each.job_id % 2 == 0}


def test_the_last_run_of_a_job_is_the_one_that_did_it_last(database: Database) -> None:
    now = utc_now()
    did(database, 10, now)
    did(database, 20, now - timedelta(hours=1))
    assert [each.work.run_id for each in of(database)] == [10]
    did(database, 30, now.replace(year=9999))
    assert [each.work.run_id for each in of(database)] == [30]
    did(database, 40, utc_now(), job_id=2)
    assert [each.work.run_id for each in of(database)] == [40, 30]


def test_a_job_is_named_however_many_others_used_the_table_since(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that one may not see, those that did it at the same time, and runs that have no job."""
    monkeypatch.setattr(job_uses, "PAGE", 20)
    now = utc_now()
    hidden = [Work(job_id=number * 2 + 1, run_id=number, task_run_id=number) for number in range(150)]
    alone = [Work(job_id=None, run_id=number, task_run_id=number) for number in range(1000, 1150)]
    with database.write() as connection:
        record_in(connection, [reading(work, now) for work in (*hidden, *alone)])
    for number in (2, 4):
        did(database, number, now - timedelta(days=number), job_id=number)
    service = LineageService(database, NOTHING)
    service.on_jobs(lambda _, works: named(works))
    found = service.jobs_of(ANN, SeenNode(id=table("a").id, kind=table("a").kind, key="a", name="a"))
    assert [each.job for each in found[-2:]] == ["2", "4"]
    runs = {each.job for each in found[:-2]}
    assert (len(found), len(runs)) == (102, 100)
    assert runs < {str(work.run_id) for work in alone}


def test_a_run_that_did_more_than_is_told_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_uses, "MOST_OF_RUN", 2)
    now = utc_now()
    seen = []
    for task in range(2):
        did(database, 1, now, job_id=None, task=task)
        with database.read() as connection:
            done, is_cut = job_uses.of_run(connection, 1)
        seen.append((len(done), is_cut))
    assert seen == [(2, False), (2, True)]


def test_a_job_whose_last_run_is_removed_used_the_table_with_the_one_before(database: Database) -> None:
    now = utc_now()
    for number in (10, 30, 20):
        did(database, number, now - timedelta(hours=100 - number))
    did(database, 50, now, job_id=2)
    seen = []
    for gone in ([30, 50], [10], [20]):
        with database.write() as connection:
            forget_runs(connection, gone)
        seen.append([each.work.run_id for each in of(database)])
    assert seen == [[20], [20], []]
