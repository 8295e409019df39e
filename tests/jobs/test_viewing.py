"""What lists and the matrix read of many jobs and runs, on each database."""

from collections.abc import Mapping
from typing import Any

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.jobs import store
from millpond.jobs.domain import Job, Result, State
from millpond.jobs.service import JobService
from millpond.jobs.settings import checked, specs_of
from millpond.jobs.starting import attempt, start
from millpond.jobs.viewing import RUNS_GLANCED, JobViews
from millpond.jobs.visible import visible
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from tests.billing.free import task_costs

ANN, BEN = (
    Principal(id=name, name=name, kind=PrincipalKind.USER, is_admin=False) for name in ("ann@example.com", "ben")
)
TASK = {"spark_python_task": {"python_file": "/Volumes/a/b/c/s.py"}}


def make(database: Database, owner: Principal, name: str, **settings: Any) -> Job:
    tasks = [{"task_key": "a", **TASK}, {"task_key": "b", "depends_on": [{"task_key": "a"}], **TASK}]
    kept = checked({"name": name, "tasks": tasks, "max_concurrent_runs": 100, **settings})
    job = Job(id=store.new_number(), name=name, creator=owner.name, run_as=owner.name, settings=kept,
              created_at=utc_now())  # fmt: skip
    with database.write() as connection:
        store.add_job(connection, job)
    return job


def run(database: Database, job: Job) -> int:
    with database.write() as connection:
        return start(connection, job, creator=job.creator, trigger="ONE_TIME", now=utc_now())


@pytest.fixture
def views(database: Database) -> JobViews:
    nothing: Any = None  # who starts no process needs none of it
    service = JobService(
        database,
        nothing,
        watcher=nothing,
        costs=task_costs(database),
        check_target=nothing,
        check_cluster=nothing,
        moved=lambda *_: None,
        principal_named=nothing,
    )
    return JobViews(database, service, nothing, nothing)


def names(views: JobViews, who: Principal, **asked: str) -> list[str]:
    return [each.job.name for each in views.jobs(who, page_token=None, limit=50, **asked).items]


def test_jobs_are_found_by_what_is_in_their_names_owner_and_tags(database: Database, views: JobViews) -> None:
    make(database, ANN, "Retrain 100%", tags={"team": "growth"})
    make(database, ANN, "score", tags={"team": "core"})
    make(database, BEN, "retrain")
    assert names(views, ANN) == ["score", "Retrain 100%"]
    assert names(views, ANN, text="RETRAIN") == names(views, ANN, text="0%") == ["Retrain 100%"]
    assert names(views, ANN, tag="team") == ["score", "Retrain 100%"]
    assert names(views, ANN, tag="team=core") == ["score"]
    assert names(views, ANN, text="_", owner="ben") == []


def test_a_list_has_the_last_runs_of_each_job(database: Database, views: JobViews) -> None:
    often, never = make(database, ANN, "often"), make(database, ANN, "never")
    made = [run(database, often) for _ in range(RUNS_GLANCED + 2)]
    found = {each.job.id: each for each in views.jobs(ANN, page_token=None, limit=50).items}
    assert [each.id for each in found[often.id].runs] == made[::-1][:RUNS_GLANCED]
    assert (found[never.id].runs, found[never.id].may_run) == ((), True)


def test_the_matrix_holds_the_last_attempt_at_each_task_of_each_run(database: Database, views: JobViews) -> None:
    job = make(database, ANN, "job")
    first, second = run(database, job), run(database, job)
    with database.write() as connection:
        spec = specs_of(job.settings)[0]
        ended: Mapping[str, Any] = {"state": State.ENDED, "result": Result.SUCCESS}
        store.add_tasks(connection, [attempt(first, spec, attempt=1, **ended)])
        parent = store.tasks_of(connection, second)[0]
        store.add_tasks(connection, [attempt(second, spec, parent_id=parent.id, iteration=0, attempt=7, **ended)])
    matrix, older = views.matrix(ANN, job.id)
    assert ([each.id for each in matrix.runs], matrix.keys, older) == ([second, first], ("a", "b"), None)
    waits = (State.BLOCKED, Result.NONE)
    assert matrix.cells == {(first, "a"): (State.ENDED, Result.SUCCESS), (first, "b"): waits, (second, "a"): waits,
                            (second, "b"): waits}  # fmt: skip


def test_what_is_somebody_elses_is_not_there(database: Database, views: JobViews) -> None:
    job = make(database, ANN, "job")
    run_id = run(database, job)
    asks: list[Any] = [
        lambda: views.matrix(BEN, job.id), lambda: views.run(BEN, run_id), lambda: views.task(BEN, run_id, "a", None),
        lambda: views.log(BEN, run_id, 1), lambda: views.search_logs(BEN, run_id, "x"),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(NotFound):
            ask()
    assert views.runs(BEN, page_token=None, limit=5).items == ()
    with pytest.raises(NotFound, match="no attempt"):
        views.task(ANN, run_id, "a", views.run(ANN, run_id).current["b"].id)


def test_a_page_of_few_visible_rows_among_many_leads_on() -> None:
    class Row:
        def __init__(self, number: int) -> None:
            self.id = number

    def more(before: int | None) -> list[Row]:
        return [Row(number) for number in range((before or 101) - 1, 0, -1)][:3]

    token, found = None, []
    for _ in range(9):
        page = visible(more, lambda row: row.id in (3, 50), token, 2)
        found += [row.id for row in page.items]
        if (token := page.next_page_token) is None:
            break
    assert (found, token) == ([50, 3], None)
