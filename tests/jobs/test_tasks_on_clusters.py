"""What becomes of a task whose cluster ends before the task begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millpond.compute.job_clusters import WasEnded
from millpond.jobs.domain import Result, TaskRun
from millpond.jobs.task_files import Ended
from millpond.kernel.database import Database
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.jobs.test_workers import task_of, waiting

DONE = Ended(result=Result.SUCCESS)
GONE = WasEnded("Cluster 'c' was ended before the task began: Ended by ann.")


@pytest.mark.parametrize(
    ("starts", "comes", "result"),
    [
        ([False], [DONE], Result.SUCCESS),
        ([False, True], [GONE, DONE], Result.SUCCESS),
        ([False, False, True], [GONE, GONE, DONE], Result.SUCCESS),
        ([True], [GONE], Result.FAILED),
        ([False, True], [GONE, GONE], Result.FAILED),
    ],
    ids=["it runs", "it was ending", "somebody else ended it again", "it was started", "it was started at last"],
)
def test_a_cluster_is_started_once_for_a_task(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: list[bool], comes: list[Any],
    result: Result,
) -> None:  # fmt: skip
    kept: set[str] = set()
    start, come = iter(starts), iter(comes)
    launcher = launcher_in(tmp_path, clusters=SimpleNamespace(settled=set, keep=kept.update))

    def run(*_: Any, **__: Any) -> Ended:
        what = next(come)
        if isinstance(what, WasEnded):
            raise what
        return DONE

    monkeypatch.setattr(launcher, "assign", lambda *_: ("c", next(start)))
    monkeypatch.setattr(launcher, "run", run)
    runtime = runtime_of(database, launcher)
    run_id = waiting(database, existing_cluster_id="c")
    runtime.moved(run_id)

    def ended() -> TaskRun | None:
        runtime.round()
        runtime._take_one()
        found = task_of(database, run_id)
        return found if found.ended else None

    task = next(found for _ in range(10) if (found := ended()))
    assert (task.result, [*start], [*come], kept) == (result, [], [], {"c"})
    assert task.message == ("" if result is Result.SUCCESS else GONE.message)
