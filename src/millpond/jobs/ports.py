"""What the room of pipelines, above, does for jobs; and what it may do with the runs of its updates.

An update of a pipeline is a run without a job, with one task (`Kind.UPDATE`), as whoever the pipeline runs as.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.jobs import store
from millpond.jobs.domain import Kind, Result, Run, State
from millpond.jobs.starting import submit

TASK = "update"
"""The key of the only task of an update's run."""


class Updates(Protocol):
    """Updates of pipelines."""

    def begin(self, connection: Connection, run: Run, body: Mapping[str, Any]) -> tuple[int, str]:
        """Start the update that a `pipeline_task` of a run asks for; its run, and its id. Raises MillpondError."""

    def code(self, principal: Principal, run: Run, directory: Path) -> tuple[dict[str, Any], Sequence[str]]:
        """What the process of an update's run is told, and the packages that it needs besides. Raises MillpondError."""

    def ended(self, connection: Connection, run: Run, result: Result, message: str) -> None:
        """An update's run has ended; in that transaction."""


def start_update_run(
    connection: Connection, *, update_id: str, pipeline_id: str, settings: Mapping[str, Any], task: Mapping[str, Any],
    owner: str, run_as: str, now: datetime, parent: Run | None,
) -> int:  # fmt: skip
    """The run of an update; `settings` are its name and tags, `task` what its task has besides the update.

    It is a part of the run `parent`, where a task of that asked for it.
    """
    body = {"task_key": TASK, Kind.UPDATE.value: {"update_id": update_id}, **task}
    return submit(
        connection, {**settings, "tasks": [body]}, creator=owner, run_as=run_as, now=now, token=None,
        pipeline_id=pipeline_id, parent=parent,
    )  # fmt: skip


def cancel_run(connection: Connection, run_id: int, now: datetime) -> None:
    """Ask a run to end; harmless for one that has ended. Whoever asks says afterwards that it is to be moved on."""
    run = store.find_run(connection, run_id, lock=True)
    if run is not None and run.state is not State.ENDED:
        store.change_run(connection, run_id, cancelled=True, due_at=now)


def give_runs(connection: Connection, pipeline_id: str, owner: str) -> None:
    """Have the runs of a pipeline's updates belong to its new owner."""
    store.give_runs(connection, pipeline_id, owner)
