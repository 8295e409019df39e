"""One run or task that cannot be moved on keeps no other from going on."""

import json
import os
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millpond.jobs import leases, store
from millpond.jobs.domain import Job, Place, Result, Run
from millpond.jobs.settings import checked
from millpond.jobs.starting import submit
from millpond.jobs.task_files import TaskFiles
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument
from tests.billing.free import task_costs
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.servers import wait_until

NOTHING: Any = None
GOOD = {"tasks": [{"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}]}
SCRIPT = {"python_file": "/Volumes/a/b/c/s.py"}


def submitted(database: Database, settings: Any) -> int:
    with database.write() as connection:
        return submit(connection, settings, creator="a", run_as="a", now=utc_now(), token=None)


def found(database: Database, run_id: int) -> Run:
    with database.read() as connection:
        run = store.find_run(connection, run_id)
    assert run is not None
    return run


def test_a_run_that_cannot_be_moved_on_is_left_alone_for_a_while_and_others_end(database: Database) -> None:
    server = runtime_of(database)
    bad = submitted(database, {**checked(GOOD), "timeout_seconds": 10**15})
    good = submitted(database, checked(GOOD))
    server.round()
    assert found(database, good).result is Result.SUCCESS
    later = found(database, bad).due_at
    assert later is not None
    assert utc_now() + timedelta(seconds=30) < later < utc_now() + timedelta(minutes=2)


def test_a_job_that_cannot_be_started_keeps_no_other_from_its_time(database: Database) -> None:
    due = utc_now() - timedelta(seconds=1)
    with database.write() as connection:
        for job_id, unit in ((1, "AEONS"), (2, "HOURS")):
            settings = checked(GOOD) | {"trigger": {"periodic": {"interval": 1, "unit": unit}}}
            job = Job(id=job_id, name="", creator="a", run_as="a", settings=settings, created_at=due,
                      trigger_kind="periodic", next_fire_at=due)  # fmt: skip
            store.add_job(connection, job)
    runtime_of(database).round()
    with database.read() as connection:
        jobs = [store.last_runs(connection, job_id, 5) for job_id in (1, 2)]
    assert [len(runs) for runs in jobs] == [0, 1]


def test_a_lost_task_that_cannot_be_settled_keeps_no_other_waiting(database: Database, tmp_path: Path) -> None:
    launcher = launcher_in(tmp_path)
    server = runtime_of(database, launcher)
    runs, now = [submitted(database, checked({"tasks": [{"task_key": "a", "spark_python_task": SCRIPT}]}))
                 for _ in range(2)], utc_now()  # fmt: skip
    server.moved(*runs)
    for lease in ("a", "b"):
        with database.write() as connection:
            lost = leases.claim(
                connection, now, lease, now - timedelta(seconds=1), places=[Place.ANYWHERE], server="here"
            )
        assert lost is not None
        place = tmp_path / "jobs" / str(lost.id)
        place.mkdir(parents=True)
        (place / "began").touch()
        (place / "notebook.ipynb").write_text("{}")
        if lost.run_id == runs[0]:  # where its notebook would be kept is a directory
            (tmp_path / "logs" / "jobs" / f"{lost.id}.notebook.ipynb" / "x").mkdir(parents=True)
    server.round()
    assert [found(database, run_id).result for run_id in runs] == [Result.NONE, Result.FAILED]
    with database.read() as connection:
        assert leases.lost(connection, utc_now(), "here", now) == []


@pytest.mark.parametrize(
    "field", [{"timeout_seconds": 10**12}, {"min_retry_interval_millis": 10**15}, {"run_job_task": {"job_id": 2**63}}]
)
def test_times_and_ids_beyond_all_bounds_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(field))):
        checked({"tasks": [{**GOOD["tasks"][0], **field}]})
    if "timeout_seconds" in field:
        with pytest.raises(InvalidArgument, match="timeout_seconds"):
            checked({**GOOD, **field})


@pytest.mark.parametrize(
    ("inputs", "result"),
    [("[" * 100_000, Result.FAILED), ("[" * 700 + "]" * 700, Result.FAILED), ('["\\u0000", NaN, 1e999]', Result.NONE)],
    ids=["too deep to read", "too deep to keep", "NUL and no numbers"],
)
def test_inputs_that_no_database_takes(database: Database, inputs: str, result: Result) -> None:
    loop = {"inputs": inputs, "task": {"task_key": "one", "spark_python_task": SCRIPT}}
    run_id = submitted(database, checked({"tasks": [{"task_key": "a", "for_each_task": loop}]}))
    runtime_of(database).round()
    assert found(database, run_id).result is result
    with database.read() as connection:
        kept = [task.input for task in store.tasks_of(connection, run_id) if task.iteration is not None]
    assert kept == (["\ufffd", "nan", "inf"] if result is Result.NONE else [])


def test_what_a_task_left_is_told_whatever_it_is(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path)
    place = tmp_path / "jobs" / "1"
    place.mkdir(parents=True)
    (place / "began").symlink_to(place / "began")
    assert files.began_at(1, utc_now()) is None
    (place / "began").unlink()
    (place / "began").touch()
    for moment in (-(2**40), 2**40):
        os.utime(place / "began", (moment, moment))
        told = files.began_at(1, utc_now())
        assert told is not None
        assert abs(utc_now() - told) < timedelta(minutes=1)
    deep: Any = 1
    for _ in range(600):
        deep = [deep]
    (place / "result.json").write_text(json.dumps({"ok": True, "values": deep}))
    assert files.told(1) is None
    (place / "began").unlink()
    place.chmod(0)
    try:
        assert files.began(1) is (os.getuid() != 0)
    finally:
        place.chmod(0o700)


class Broken:
    """Code that nobody can get, for a reason that nobody thought of."""

    def get(self, *_: object) -> Any:
        raise zlib.error("invalid block type")


def test_a_task_that_cannot_be_started_has_failed_whatever_the_reason(database: Database, tmp_path: Path) -> None:
    broken: Any = Broken()
    launcher = launcher_in(tmp_path, code=broken, costs=task_costs(database), principal_named=lambda _name: NOTHING)
    run_id = submitted(database, checked({"tasks": [{"task_key": "a", "spark_python_task": SCRIPT}]}))
    with runtime_of(database, launcher).at_work():
        run = wait_until(lambda: run if (run := found(database, run_id)).result else None, what="the run's end")
    with database.read() as connection:
        [task] = store.tasks_of(connection, run_id)
    assert (run.result, task.result) == (Result.FAILED, Result.FAILED)
    assert "could not be started" in task.message


def test_files_of_tasks_that_ended_are_removed_when_their_server_was_killed(database: Database, tmp_path: Path) -> None:
    launcher = launcher_in(tmp_path)
    server = runtime_of(database, launcher)
    going_on = submitted(database, checked({"tasks": [{"task_key": "a", "spark_python_task": SCRIPT}]}))
    ended = submitted(database, checked(GOOD))
    server.moved(going_on, ended)
    with database.read() as connection:
        ids = [task.id for task in store.tasks_of(connection, going_on, ended)]
    for task_id in (*ids, 7):
        (tmp_path / "jobs" / str(task_id)).mkdir(parents=True)
    server.tidy()
    [running] = [task_id for task_id in ids if (tmp_path / "jobs" / str(task_id)).exists()]
    assert launcher.files.directories() == [running]
    with database.read() as connection:
        assert {task.id for task in store.tasks_of(connection, going_on)} == {running}
    assert (tmp_path / "jobs" / "server-name").is_file()
