"""What becomes of a task whose server was killed, by what the task's process had written."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millpond.jobs import leases, store
from millpond.jobs.domain import Place, Result, State
from millpond.jobs.settings import checked
from millpond.jobs.starting import submit
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from tests.jobs.servers_of import launcher_in, runtime_of

DONE = json.dumps({"ok": True, "values": {"rows": 3}})


@pytest.mark.parametrize(
    ("files", "state", "result", "values"),
    [
        ({}, State.QUEUED, Result.NONE, {}),
        ({"began": ""}, State.ENDED, Result.FAILED, {}),
        ({"began": "", "result.json": DONE, "notebook.ipynb": "{}"}, State.ENDED, Result.SUCCESS, {"rows": 3}),
        ({"began": "", "result.json": "[{"}, State.ENDED, Result.FAILED, {}),
    ],
    ids=["never begun", "begun", "done", "written by somebody else"],
)
def test_a_lost_task_is_done_once(
    database: Database, tmp_path: Path, files: Mapping[str, str], state: State, result: Result, values: dict[str, Any]
) -> None:
    launcher = launcher_in(tmp_path)
    runtime = runtime_of(database, launcher)
    tasks = [{"task_key": "a", "spark_python_task": {"python_file": "/Volumes/a/b/c/s.py"}}]
    now = utc_now()
    with database.write() as connection:
        run_id = submit(connection, checked({"tasks": tasks}), creator="a", run_as="a", now=now, token=None)
    runtime.moved(run_id)
    with database.write() as connection:
        lost = leases.claim(connection, now, "held", now - timedelta(seconds=1), places=[Place.ANYWHERE], server="here")
    assert lost is not None
    for name, text in files.items():
        place = tmp_path / "jobs" / str(lost.id) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    runtime.round()
    with database.write() as connection:
        [task] = store.tasks_of(connection, run_id)
        assert (task.state, task.result, task.task_values) == (state, result, values)
        assert not leases.write_held(connection, lost.id, "held", state=State.ENDED, result=Result.FAILED)
    assert launcher.files.kept(lost.id, "notebook.ipynb") == (b"{}" if "notebook.ipynb" in files else None)
    launcher.files.forget_log(lost.id)
    assert launcher.files.kept(lost.id, "notebook.ipynb") is None
