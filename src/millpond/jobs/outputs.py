"""What tasks printed and left, wherever they ran: in files of this server, or in the database, as workers told it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.jobs.domain import Run, TaskRun
from millpond.jobs.logs import FileLog, Log
from millpond.jobs.project_run import ARTIFACTS
from millpond.jobs.task_files import LARGEST_KEPT, TaskFiles, as_object
from millpond.jobs.workers import store
from millpond.jobs.workers.domain import LOG, MOST_LOG_BYTES
from millpond.kernel.database import Database

_SHOWN_LOG_BYTES = 5 << 20
_LEFT_OUT = f"\n[Millpond: what a task on a worker prints beyond {MOST_LOG_BYTES >> 20} MiB is left out.]\n"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run and its tasks' runs."""

    run: Run
    tasks: tuple[TaskRun, ...]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a task run printed, and left."""

    shown: Shown
    task: TaskRun
    log: str
    truncated: bool
    left: Mapping[str, Any] | None = None
    """What it ended with, if it did so with something."""


class Outputs:
    """Reads them."""

    def __init__(self, database: Database, files: TaskFiles, server: str) -> None:
        self._database = database
        self._files = files
        self._server = server

    def is_here(self, task: TaskRun) -> bool:
        """Whether this server has what a task printed and left, if it did so."""
        return bool(task.worker) or task.server in ("", self._server)

    def of(self, shown: Shown, task: TaskRun) -> Output:
        """The output of a task run, as far as this server has it: of another server's, its row tells some of it."""
        log, truncated = self.end_of_log(task)
        left = self.kept(task, "output.json")
        if not self.is_here(task):
            log = log or f"What it printed is kept by the server that ran it, {task.server}.\n"
            left = _told_by_row(task) if left is None else left
        return Output(shown=shown, task=task, log=log, truncated=truncated, left=left)

    def log(self, task: TaskRun) -> Log:
        """What a task printed."""
        return _ToldLog(self._database, task.id) if task.worker else FileLog(self._files.log_path(task.id))

    def end_of_log(self, task: TaskRun) -> tuple[str, bool]:
        """The end of what a task printed, and whether its beginning is left out."""
        log = self.log(task)
        size = log.size()
        begin = max(0, size - _SHOWN_LOG_BYTES)
        rest = _LEFT_OUT if task.worker and size >= MOST_LOG_BYTES else ""
        return log.read(begin, _SHOWN_LOG_BYTES).decode(errors="replace") + rest, begin > 0

    def kept(self, task: TaskRun, name: str) -> dict[str, Any] | None:
        """What a task left under a name, while it runs too, where it is a JSON object."""
        return as_object(self._kept(task, name))

    def artifacts(self, task: TaskRun) -> bytes | None:
        """What dbt left, packed as tar with gzip, once the task has ended."""
        return self._kept(task, ARTIFACTS)

    def _kept(self, task: TaskRun, name: str) -> bytes | None:
        if not task.worker:
            return self._files.kept(task.id, name)
        with self._database.read() as connection:
            return store.read(connection, task.id, name, 0, LARGEST_KEPT) or None

    def forget(self, task_ids: Sequence[int]) -> None:
        """Remove what tasks printed and left, that are removed too."""
        with self._database.write() as connection:
            store.forget(connection, task_ids)
        for task_id in task_ids:
            self._files.forget_log(task_id)


@dataclass(frozen=True)
class _ToldLog:
    database: Database
    task_id: int

    def size(self) -> int:
        with self.database.read() as connection:
            return store.size_of(connection, self.task_id, LOG)

    def read(self, start: int, most_bytes: int) -> bytes:
        with self.database.read() as connection:
            return store.read(connection, self.task_id, LOG, start, most_bytes)


def _told_by_row(task: TaskRun) -> dict[str, Any] | None:
    """The link to what dbt left says which server has it."""
    if "commands" in task.order and task.ended and task.began_at is not None:
        return {"artifacts": True}
    if "uri" in task.order and (run_id := task.task_values.get("mlflow_run_id")):
        return {"mlflow_run_id": run_id}
    return None
