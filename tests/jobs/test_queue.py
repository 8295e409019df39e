"""Runs that wait until their job has room."""

from typing import Any

import pytest

from millpond.jobs import store
from millpond.jobs.advancing import Advancer
from millpond.jobs.domain import Job, Result, State
from millpond.jobs.notices import about
from millpond.jobs.settings import checked
from millpond.jobs.starting import start
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
