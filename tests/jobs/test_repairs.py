"""Repairs with other parameters."""

from typing import Any

import pytest

from millpond.identity.domain import Principal
from millpond.jobs import store
from millpond.jobs.domain import Result, State
from millpond.jobs.service import JobService
from millpond.jobs.settings import checked
from millpond.jobs.starting import start
from millpond.jobs.wire import RepairInput
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from tests.billing.free import task_costs
from tests.jobs.test_viewing import ANN, BEN, make

OTHER_TASKS = [
    {"task_key": "nb", "notebook_task": {"notebook_path": "/Shared/a", "base_parameters": {"x": "1", "y": "2"}}},
    {"task_key": "py", "spark_python_task": {"python_file": "/Volumes/a/b/c/s.py", "parameters": ["old"]}},
    {"task_key": "sql", "sql_task": {"warehouse_id": "w", "query": {"query_id": "q"}}},
]


def test_a_repair_takes_parameters_for_the_tasks_that_it_runs_and_refuses_those_that_are_none(
    database: Database,
) -> None:
    nothing: Any = None
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
    job = make(database, ANN, "job", parameters=[{"name": "day", "default": "1"}])
    settings = checked({**job.settings, "tasks": OTHER_TASKS})
    with database.write() as connection:
        run_id = start(connection, job, creator="ann", trigger="ONE_TIME", now=utc_now(), settings=settings)
        store.change_run(connection, run_id, state=State.ENDED, result=Result.FAILED)

    def repair(who: Principal = ANN, **given: Any) -> int:
        return service.repair(who, run_id, tasks=["nb", "sql"], all_failed=False, dependents=False, **given)

    for bad in ({"parameters": {"(a+)+": "x"}}, {"sql_params": {"(a+)+": "x"}}):
        with pytest.raises(InvalidArgument, match="arameter"):
            repair(**bad)
    with pytest.raises(NotFound):
        repair(BEN)
    repair(
        parameters={"day": "2"}, notebook_params={"x": "3"}, python_params=["not run again"], sql_params={"day": "4"}
    )
    with database.read() as connection:
        run = store.find_run(connection, run_id)
    assert run is not None
    notebook, script, sql = run.settings["tasks"]
    assert run.parameters == {"day": "2"}
    assert notebook["notebook_task"]["base_parameters"] == {"x": "3", "y": "2"}
    assert script["spark_python_task"]["parameters"] == ["old"]
    assert sql["sql_task"]["parameters"] == {"day": "4"}


def test_the_repair_of_the_api_has_all_parameters_by_their_names() -> None:
    given = {"notebook_params", "python_params", "python_named_params", "sql_params", "job_parameters"}
    assert given <= set(RepairInput.model_fields)
