"""What a task run printed and left: files of the server that ran it. Of another server's, its row tells some of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millpond.jobs.domain import Run, TaskRun
from millpond.jobs.launching import Launcher


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


def output_of(launcher: Launcher, shown: Shown, task: TaskRun) -> Output:
    """The output of a task run, as far as this server has it."""
    log, truncated = launcher.log(task.id)
    left = launcher.kept(task.id, "output.json")
    if task.server not in ("", launcher.server):
        log = log or f"What it printed is kept by the server that ran it, {task.server}.\n"
        left = _told_by_row(task) if left is None else left
    return Output(shown=shown, task=task, log=log, truncated=truncated, left=left)


def _told_by_row(task: TaskRun) -> dict[str, Any] | None:
    """The link to what dbt left says which server has it."""
    if "commands" in task.order and task.ended and task.began_at is not None:
        return {"artifacts": True}
    if "uri" in task.order and (run_id := task.task_values.get("mlflow_run_id")):
        return {"mlflow_run_id": run_id}
    return None
