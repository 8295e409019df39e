"""What is written down of runs and attempts that nobody asked for: in the audit, and to whom the settings name."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.jobs import notices
from millpond.jobs.domain import Job, Result, Run, TaskRun
from millpond.jobs.notices import SUCCESS, event_of
from millpond.jobs.starting import start


def fire(
    connection: Connection, job: Job, trigger: str, now: datetime, token: str, news: Mapping[str, str] | None = None
) -> int:
    """Start a run that a trigger asks for, in the name of whom the job runs as; `news` is what the trigger saw."""
    run_id = start(connection, job, creator=job.run_as, trigger=trigger, now=now, token=token, news=news)
    acts.changed(
        connection, job.run_as, "trigger", "job", str(job.id), object_id=str(job.id), run_id=run_id, trigger=trigger
    )
    return run_id


def attempt_began(connection: Connection, run: Run, task: TaskRun) -> None:
    """An attempt's turn has come."""
    _write(connection, "start", run, task)
    notices.task_began(connection, run, task)


def attempt_ended(connection: Connection, run: Run, task: TaskRun, result: Result, message: str) -> None:
    """An attempt has ended; `task` is as it was before."""
    _write(connection, "succeed" if event_of(result) == SUCCESS else "fail", run, task, result=result.value)
    notices.task_ended(connection, run, task, result, message)


def _write(connection: Connection, act: str, run: Run, task: TaskRun, **more: str) -> None:
    acts.changed(
        connection, run.run_as, act, "task run", str(task.id), object_id=str(task.id), job_id=run.job_id or 0,
        run_id=run.id, task_key=task.key, attempt=task.attempt, **more,
    )  # fmt: skip
