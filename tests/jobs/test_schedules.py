"""Schedules, on both kinds of database."""

from datetime import UTC, datetime, timedelta
from typing import Any

from millpond.jobs import store
from millpond.jobs.advancing import Advancer
from millpond.jobs.domain import Job, Result
from millpond.jobs.runtime import Runtime
from millpond.jobs.schedule import next_fire
from millpond.jobs.settings import checked
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database

HOURLY = {
    "trigger": {"periodic": {"interval": 1, "unit": "HOURS"}},
    "tasks": [{"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}],
}


def test_two_servers_fire_a_missed_time_once_and_go_on_from_now(database: Database) -> None:
    missed = utc_now() - timedelta(hours=5, minutes=1)
    job = Job(id=1, name="", creator="a", run_as="a", settings=checked(HOURLY), created_at=missed,
              trigger_kind="periodic", next_fire_at=missed)  # fmt: skip
    with database.write() as connection:
        store.add_job(connection, job)
    nothing: Any = None  # what runs no script needs neither a launcher nor principals
    servers = [Runtime(database, Advancer(database, nothing), nothing, at_once=1, server="here") for _ in range(2)]
    for server in servers:
        server.round()
    with database.write() as connection:  # as if the first had been killed before it wrote that it fired
        store.change_job(connection, 1, next_fire_at=missed)
    servers[1].round()
    with database.read() as connection:
        runs = store.list_runs(
            connection, job_id=1, active=None, since=None, until=None, submitted=None, before=None, limit=10
        )
        found = store.find_job(connection, 1)
    assert [(run.trigger, run.result) for run in runs] == [("PERIODIC", Result.SUCCESS)]
    assert found is not None
    assert found.next_fire_at is not None
    assert found.next_fire_at > utc_now()


def test_a_paused_trigger_fires_never() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert next_fire(HOURLY, noon) == noon + timedelta(hours=1)
    assert next_fire({"trigger": {**HOURLY["trigger"], "pause_status": "PAUSED"}}, noon) is None
