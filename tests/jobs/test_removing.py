"""What goes with a run that is removed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from millpond.identity.domain import Work
from millpond.jobs import store
from millpond.jobs.domain import Result, State
from millpond.jobs.launching import Launcher
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.lineage.job_uses import uses
from millpond.lineage.service import record_in
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.jobs.test_outputs import service_with
from tests.jobs.test_viewing import ANN
from tests.jobs.test_workers import waiting
from tests.lineage.observations import inserted


def runs_in_lineage(database: Database) -> set[int]:
    with database.read() as connection:
        return set(connection.execute(select(uses.c.run_id)).scalars())


@pytest.mark.parametrize(
    "remove",
    [
        lambda database, launcher, _: runtime_of(database, launcher, kept=timedelta(days=-1)).tidy(),
        lambda database, launcher, run_id: service_with(database, launcher).delete_run(ANN, run_id),
    ],
    ids=["old", "deleted"],
)
def test_lineage_forgets_a_run_that_is_removed(
    database: Database, tmp_path: Path, remove: Callable[[Database, Launcher, int], object]
) -> None:
    launcher = launcher_in(tmp_path)
    gone, kept = (waiting(database, run_as=ANN.name) for _ in range(2))
    with database.write() as connection:
        for run_id in (gone, kept):
            seen = inserted(str(run_id), "a", "b")
            act = replace(seen.act, work=Work(job_id=None, run_id=run_id, task_run_id=run_id + 1))
            record_in(connection, [replace(seen, act=act)])
        store.change_run(connection, gone, state=State.ENDED, result=Result.SUCCESS, ended_at=utc_now())
    assert runs_in_lineage(database) == {gone, kept}
    remove(database, launcher, gone)
    assert runs_in_lineage(database) == {kept}
