"""Schedules, on both kinds of database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from millpond.jobs import store
from millpond.jobs.domain import Job, Result
from millpond.jobs.schedule import next_fire, pause_after
from millpond.jobs.settings import checked
from millpond.jobs.starting import submit
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.servers import wait_until

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
    servers = [runtime_of(database) for _ in range(2)]
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


def test_runs_of_long_ago_are_removed_with_what_they_printed_and_others_stay(
    database: Database, tmp_path: Path
) -> None:
    launcher = launcher_in(tmp_path)
    server = runtime_of(database, launcher, kept=timedelta(seconds=0.5))
    with database.write() as connection:
        old = submit(connection, checked(HOURLY), creator="a", run_as="a", now=utc_now(), token=None)
    server.moved(old)
    with database.read() as connection:
        [task] = store.tasks_of(connection, old)
    launcher.files.log_path(task.id).parent.mkdir(parents=True)
    launcher.files.log_path(task.id).write_text("hello")
    waits = {"tasks": [{"task_key": "a", "spark_python_task": {"python_file": "/Volumes/a/b/c/s.py"}}]}
    with database.write() as connection:
        going_on = submit(connection, checked(waits), creator="a", run_as="a", now=utc_now(), token=None)
    due = utc_now() + timedelta(seconds=0.6)
    wait_until(lambda: utc_now() > due, what="the time to pass")
    server.tidy()
    with database.read() as connection:
        found = [store.find_run(connection, run_id) is not None for run_id in (old, going_on)]
        left = store.tasks_of(connection, old)
    assert (found, left, launcher.files.log_path(task.id).exists()) == ([False, True], [], False)


def test_a_continuous_job_that_fails_waits_longer_each_time() -> None:
    failed, good = Result.FAILED, Result.SUCCESS
    assert [pause_after([*[failed] * count, good]).total_seconds() for count in range(4)] == [0, 5, 10, 20]
    assert pause_after([Result.TIMED_OUT] * 10).total_seconds() == 600
    assert pause_after([Result.CANCELED, failed]).total_seconds() == 0


def test_many_open_runs_that_wait_are_not_looked_at(database: Database) -> None:
    server = runtime_of(database)
    fails = {"op": "LESS_THAN", "left": "a", "right": "1"}
    waits = {
        "tasks": [{"task_key": "a", "condition_task": fails, "max_retries": -1, "min_retry_interval_millis": 10**6}]
    }
    with database.write() as connection:
        runs = [
            submit(connection, checked(waits), creator="a", run_as="a", now=utc_now(), token=None) for _ in range(3)
        ]
    server.round()
    with database.read() as connection:
        due = store.due_runs(connection, utc_now() + timedelta(seconds=30), 10)
        late = store.due_runs(connection, utc_now() + timedelta(minutes=2), 10)
    assert (due, sorted(late)) == ([], runs)


def test_a_run_that_has_ended_is_looked_at_no_more_whoever_asks_for_it(database: Database) -> None:
    server = runtime_of(database)
    with database.write() as connection:
        run_id = submit(connection, checked(HOURLY), creator="a", run_as="a", now=utc_now(), token=None)
    server.round()
    with database.write() as connection:  # as who cancels it, or settles a task of it, in the moment of its end
        store.change_run(connection, run_id, due_at=utc_now())
    server.round()
    with database.read() as connection:
        run = store.find_run(connection, run_id)
    assert run is not None
    assert (run.result, run.due_at) == (Result.SUCCESS, None)
