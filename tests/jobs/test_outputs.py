"""What tasks left, asked on the server that ran them and on another with the same database."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from millpond.jobs import leases
from millpond.jobs.domain import Place, Result, TaskRun
from millpond.jobs.launching import Launcher
from millpond.jobs.outputs import Outputs
from millpond.jobs.project_run import ARTIFACTS
from millpond.jobs.service import JobService
from millpond.jobs.settings import checked
from millpond.jobs.starting import submit
from millpond.jobs.task_files import Ended
from millpond.jobs.wire import output_json
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from tests.billing.free import task_costs
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.jobs.test_viewing import ANN, BEN
from tests.jobs.test_workers import waiting

NOTHING: Any = None
TASKS = [
    {"task_key": "dbt", "dbt_task": {"commands": ["dbt build"], "project_directory": "/Users/a", "warehouse_id": "w"}},
    {"task_key": "line", "mlflow_project_task": {"uri": "/Users/a"}},
    {"task_key": "script", "spark_python_task": {"python_file": "/Volumes/a/b/c/s.py"}},
]
LEFT = {
    "dbt": ({}, {"artifacts": True}), "line": ({"mlflow_run_id": "r1"}, {"mlflow_run_id": "r1"}),
    "script": ({"mlflow_run_id": "a value of its own"}, None),
}  # fmt: skip


def service_with(database: Database, launcher: Launcher) -> JobService:
    outputs = Outputs(database, launcher.files, launcher.server)
    return JobService(
        database, outputs, watcher=NOTHING, costs=task_costs(database), check_target=NOTHING, check_cluster=NOTHING,
        moved=lambda *_: None, principal_named=NOTHING,
    )  # fmt: skip


def held_by(database: Database, launcher: Launcher) -> TaskRun:
    """A task that a server holds, whose lease is over."""
    run_id = waiting(database, run_as=ANN.name)
    runtime_of(database, launcher).moved(run_id)
    past = utc_now() - timedelta(seconds=1)
    with database.write() as connection:
        task = leases.claim(connection, past, "held", past, places=list(Place), server=launcher.server)
    assert task is not None
    launcher.files.fresh(task.id)
    return task


def test_another_server_tells_what_projects_left(database: Database, tmp_path: Path) -> None:
    """On PostgreSQL all of it; on SQLite, where there is no other server, what the row says."""
    here, elsewhere = (launcher_in(tmp_path / name, server=name) for name in ("here", "elsewhere"))
    runtime = runtime_of(database, here)
    now = utc_now()
    with database.write() as connection:
        run_id = submit(
            connection, checked({"tasks": TASKS}), creator=ANN.name, run_as=ANN.name, now=now, token=None
        )  # fmt: skip
    runtime.moved(run_id)
    for lease in map(str, range(len(TASKS))):
        with database.write() as connection:
            task = leases.claim(
                connection, now, lease, now - timedelta(seconds=1), places=list(Place), server=here.server
            )
        assert task is not None
        values, output = LEFT[task.key]
        place = tmp_path / "here" / "jobs" / str(task.id)
        place.mkdir()
        (place / "began").touch()
        (place / "result.json").write_text(json.dumps({"ok": True, "values": values}))
        if output is not None:
            (place / "output.json").write_text(json.dumps(output))
        if task.key == "dbt":
            (place / ARTIFACTS).write_bytes(b"packed" * 300_000)
            here.files.log_path(task.id).parent.mkdir(parents=True)
            here.files.log_path(task.id).write_text("line\n" * 500_000)
    runtime.round()  # finds them done, though their leases are over

    ran, other = service_with(database, here), service_with(database, elsewhere)
    ids = {task.key: task.id for task in ran.get_run(ANN, run_id).tasks}
    told = {
        key: [output_json(each.output(ANN, task_id), "http://here") for each in (ran, other)]
        for key, task_id in ids.items()
    }
    assert told["line"][1]["mlflow_project_output"] == {"run_id": "r1"}
    assert "mlflow_project_output" not in told["script"][1]
    assert ran.artifacts(ANN, ids["dbt"]) == b"packed" * 300_000
    if database.is_sqlite:
        assert here.server in told["script"][1]["logs"]
        with pytest.raises(NotFound):
            other.artifacts(ANN, ids["dbt"])
    else:
        assert told["dbt"][0]["dbt_output"]["artifacts_link"].startswith("http://here/")
        assert [one for one, _ in told.values()] == [two for _, two in told.values()]
        assert len(told["dbt"][1]["logs"]) == 2_500_000
        assert told["script"][1]["logs"] == ""
        assert other.artifacts(ANN, ids["dbt"]) == b"packed" * 300_000
    with pytest.raises(NotFound):
        other.output(BEN, ids["line"])


def test_who_has_lost_a_task_tells_nothing_of_it(database: Database, tmp_path: Path) -> None:
    here, elsewhere = (launcher_in(tmp_path / name, server=name) for name in ("here", "elsewhere"))
    task = held_by(database, here)
    told, seen = (Outputs(database, each.files, each.server) for each in (here, elsewhere))
    here.files.log_path(task.id).write_text("before\n")
    told.tell(task)
    before = seen.end_of_log(task)[0]
    assert before == ("" if database.is_sqlite else "before\n")
    with database.write() as connection:
        assert leases.take_over(connection, task, utc_now())
    here.files.log_path(task.id).write_text("before\nafter\n")
    told.tell(task, last=True)
    assert seen.end_of_log(task)[0] == before


def test_what_was_not_told_whole_is_not_seen_and_the_output_says_so(database: Database, tmp_path: Path) -> None:
    here, elsewhere = (launcher_in(tmp_path / name, server=name) for name in ("here", "elsewhere"))
    task, runtime = held_by(database, here), runtime_of(database, here)
    here.files.log_path(task.id).write_text("line\n")
    (here.files.directory(task.id) / ARTIFACTS).write_bytes(b"packed" * 300_000)
    if not database.is_sqlite:
        with database.write() as connection:  # as where the disk of the database is full
            connection.execute(text("ALTER TABLE job_task_parts ADD CONSTRAINT full_disk CHECK (start = 0)"))
    assert runtime.settle(task, Ended(result=Result.SUCCESS))
    other = service_with(database, elsewhere)
    with pytest.raises(NotFound):
        other.artifacts(ANN, task.id)
    printed = other.output(ANN, task.id).log
    assert printed.startswith("" if database.is_sqlite else "line\n")
    assert printed.endswith("not all that it printed and left has come from the server that ran it, here.]\n")
    assert service_with(database, here).output(ANN, task.id).log == "line\n"
