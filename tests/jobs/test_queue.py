"""Runs that wait until their job has room."""

from typing import Any
from unittest.mock import Mock

import pytest

from millpond.jobs import store
from millpond.jobs.advancing import Advancer
from millpond.jobs.domain import Job, Result, State
from millpond.jobs.notices import about
from millpond.jobs.settings import checked
from millpond.jobs.starting import start, submit
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.notifications.outbox import told_about

TASK = {"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}
SETTINGS = {"tasks": [TASK], "queue": {"enabled": True}, "email_notifications": {"on_start": ["s@x.org"]}}


@pytest.mark.parametrize(
    ("becomes", "result", "told"),
    [("its turn", Result.SUCCESS, 1), ("cancelled", Result.CANCELED, 0), ("without a job", Result.CANCELED, 0)],
)
def test_only_a_run_that_begins_is_told_to_begin(database: Database, becomes: str, result: Result, told: int) -> None:
    nothing: Any = None  # nobody's rights are asked for
    now = utc_now()
    job = Job(id=1, name="j", creator="a", run_as="a", settings=checked(SETTINGS), created_at=now)
    with database.write() as connection:
        store.add_job(connection, job)
        first, second = (start(connection, job, creator="a", trigger="ONE_TIME", now=now) for _ in range(2))
    advancer = Advancer(database, nothing, nothing)
    advancer.advance(second, now)
    with database.write() as connection:
        waits = store.find_run(connection, second)
        assert waits is not None and waits.state is State.QUEUED  # noqa: PT018 - one fact
        if becomes == "cancelled":
            store.change_run(connection, second, cancelled=True)
        elif becomes == "without a job":
            store.delete_job(connection, 1)
    advancer.advance(first, now)
    advancer.advance(second, now)
    with database.read() as connection:
        run = store.find_run(connection, second)
        assert run is not None and (run.state, run.result) == (State.ENDED, result)  # noqa: PT018 - one fact
        assert len(told_about(connection, about(second))) == told


@pytest.mark.timeout(30)
def test_what_cannot_begin_is_tried_again_later(database: Database) -> None:
    now, nothing = utc_now(), Mock()
    task = {"task_key": "a", "run_job_task": {"job_id": 7}, "max_retries": -1}
    with database.write() as connection:
        run_id = submit(connection, checked({"tasks": [task]}), creator="a", run_as="a", now=now, token=None)
    Advancer(database, nothing, nothing).advance(run_id, now)
    with database.read() as connection:
        first, second = store.tasks_of(connection, run_id)
    assert (first.result, second.state) == (Result.FAILED, State.WAITING)
    assert second.due_at is not None
    assert second.due_at > now


def test_pipelines_are_begun_one_in_a_transaction(database: Database) -> None:  # in which their locks have no order
    now, updates = utc_now(), Mock()
    updates.begin.return_value = (99, "u")
    tasks = [{"task_key": key, "pipeline_task": {"pipeline_id": key}} for key in "ab"]
    with database.write() as connection:
        run_id = submit(connection, checked({"tasks": tasks}), creator="a", run_as="a", now=now, token=None)
    advancer = Advancer(database, Mock(), lambda: updates)
    assert run_id in advancer.advance(run_id, now)
    assert updates.begin.call_count == 1
    advancer.advance(run_id, now)
    assert updates.begin.call_count == 2
