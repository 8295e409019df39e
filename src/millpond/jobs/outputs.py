"""What tasks printed and left, wherever they ran: in files of this server, or in the database, as workers told it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.jobs import leases
from millpond.jobs.domain import Run, TaskRun
from millpond.jobs.logs import FileLog, Log
from millpond.jobs.project_run import ARTIFACTS
from millpond.jobs.task_files import LARGEST_KEPT, TaskFiles, as_object
from millpond.jobs.workers import store
from millpond.jobs.workers.domain import COMES, LOG, LONGEST_PART, MOST_LOG_BYTES
from millpond.kernel.database import Database

_SHOWN_LOG_BYTES = 5 << 20
_ALL = "all"
"""Under this name stands nothing, once all of a task was told that another server ran."""
_LEFT_OUT = f"\n[Millpond: what a task elsewhere prints beyond {MOST_LOG_BYTES >> 20} MiB is left out.]\n"
_NOT_ALL = "\n[Millpond: not all that it printed and left has come from the server that ran it, {server}.]\n"
_MOST_PARTS = MOST_LOG_BYTES // LONGEST_PART
_PARTS_AT_ONCE = 2
"""While a task runs, each time."""


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

    def _in_files(self, task: TaskRun) -> bool:
        """Whether this server ran a task itself, and so has what that printed and left in files."""
        return not task.worker and task.server in ("", self._server)

    def of(self, shown: Shown, task: TaskRun) -> Output:
        """The output of a task run; of one that another server ran as far as that has told, and its row tells."""
        log, truncated = self.end_of_log(task)
        left = self.kept(task, "output.json")
        if task.ended and not task.worker and not self._in_files(task):
            with self._database.read() as connection:
                is_told = store.is_told(connection, task.id, _ALL)
            log += "" if is_told else _NOT_ALL.format(server=task.server)
        if left is None and not self._in_files(task):
            left = _told_by_row(task)
        return Output(shown=shown, task=task, log=log, truncated=truncated, left=left)

    def tell(self, task: TaskRun, *, last: bool = False) -> None:
        """Let other servers on the database know what this one's own task has printed by now; in the end all of it,
        up to 16 MiB, and what it has left, which is seen once it has come whole. Nothing is told of a task that
        somebody else has by now. On SQLite there are no others."""
        if self._database.is_sqlite or not self._in_files(task):
            return
        log = FileLog(self._files.log_path(task.id))
        with self._database.read() as connection:
            start = store.size_of(connection, task.id, LOG)
        for _ in range(_MOST_PARTS if last else _PARTS_AT_ONCE):
            if not (data := log.read(start, min(LONGEST_PART, MOST_LOG_BYTES - start))):
                break
            if not self._add(task, LOG, start, data):
                return
            start += len(data)
        if not last:
            return
        for name, data in self._files.left(task.id):
            for place in range(0, len(data), LONGEST_PART):
                end = place + LONGEST_PART
                if not self._add(task, name + COMES, place, data[place:end], whole=name if end >= len(data) else ""):
                    return
        self._add(task, _ALL, 0, b"")

    def _add(self, task: TaskRun, name: str, start: int, data: bytes, *, whole: str = "") -> bool:
        """Tell a part that is the next one, while one holds the task; the last one says what the `whole` is called."""
        with self._database.write() as connection:
            held = leases.write_held(connection, task.id, task.lease, lease=task.lease)  # which nobody takes meanwhile
            if held and name == LOG:  # of which a round may tell that was slow
                held = store.size_of(connection, task.id, LOG) == start
            if held:
                store.add_part(connection, task.id, name, start, data)
            if held and whole:
                store.rename(connection, task.id, name, whole)
        return held

    def log(self, task: TaskRun) -> Log:
        """What a task printed."""
        here = self._in_files(task)
        return FileLog(self._files.log_path(task.id)) if here else _ToldLog(self._database, task.id)

    def end_of_log(self, task: TaskRun) -> tuple[str, bool]:
        """The end of what a task printed, and whether its beginning is left out."""
        log = self.log(task)
        size = log.size()
        begin = max(0, size - _SHOWN_LOG_BYTES)
        rest = _LEFT_OUT if not self._in_files(task) and size >= MOST_LOG_BYTES else ""
        return log.read(begin, _SHOWN_LOG_BYTES).decode(errors="replace") + rest, begin > 0

    def kept(self, task: TaskRun, name: str) -> dict[str, Any] | None:
        """What a task left under a name, while it runs too, where it is a JSON object."""
        return as_object(self._kept(task, name))

    def artifacts(self, task: TaskRun) -> bytes | None:
        """What dbt left, packed as tar with gzip, once the task has ended."""
        return self._kept(task, ARTIFACTS)

    def _kept(self, task: TaskRun, name: str) -> bytes | None:
        if self._in_files(task):
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
    """What is known of what a task left that was not told."""
    if "uri" in task.order and (run_id := task.task_values.get("mlflow_run_id")):
        return {"mlflow_run_id": run_id}
    return None
