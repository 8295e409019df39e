"""A new run with its tasks' first attempts, in the transaction of what starts it."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from millpond.jobs import notices, store
from millpond.jobs.domain import Job, Kind, Result, Run, State, TaskRun, TaskSpec
from millpond.jobs.settings import specs_of
from millpond.kernel.errors import InvalidArgument

_OF_ONE_TASK = ("existing_cluster_id", "new_cluster", "libraries", "environment_key")
"""What belongs to the task where settings have but one, at their top."""
_LISTED = {Kind.PYTHON: "parameters", Kind.WHEEL: "parameters", Kind.DBT: "commands"}
_NAMED = {Kind.NOTEBOOK: "base_parameters", Kind.WHEEL: "named_parameters", Kind.SQL: "parameters"}
"""Where tasks have parameters by their names."""


def start(
    connection: Connection,
    job: Job,
    *,
    creator: str,
    trigger: str,
    now: datetime,
    settings: Mapping[str, Any] | None = None,
    parameters: Mapping[str, str] | None = None,
    token: str | None = None,
    parent: Run | None = None,
    news: Mapping[str, str] | None = None,
) -> int:
    """A run of a job that the caller has locked; the id of the earlier one where the token was used before.

    Over the job's limit it waits, or is skipped, as the job says. `news` is what its trigger saw.
    Raises InvalidArgument for parameters it has not.
    """
    asked = settings or job.settings
    busy = store.count_running(connection, job.id)
    run = _new(job.name, creator, asked, trigger, now, job.run_as, job.id, asked_parameters(asked, parameters or {}))
    run = replace(run, told=dict(news or {}))
    run = _below(run, parent)
    if busy >= job.most_runs:
        told = f"The job has {busy} runs at once, as many as it may."
        run = replace(run, state=State.QUEUED, started_at=None, message=told)
        if not job.queues:
            run = replace(run, state=State.ENDED, result=Result.TOO_MANY, ended_at=now, due_at=None)
    return _added(connection, run, token)


def has_room(connection: Connection, job: Job) -> bool:
    """Whether another run of a job may begin or wait."""
    return job.queues or store.count_running(connection, job.id) < job.most_runs


def submit(
    connection: Connection, settings: Mapping[str, Any], *, creator: str, run_as: str, now: datetime, token: str | None,
    pipeline_id: str | None = None, parent: Run | None = None,
) -> int:  # fmt: skip
    """A run without a job."""
    name = settings.get("name") or "Untitled"
    run = _new(name, creator, settings, "ONE_TIME", now, run_as, None, {})
    return _added(connection, replace(_below(run, parent), pipeline_id=pipeline_id), token)


def as_tasks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one run whose only task stands at the top, as in API 2.0, with that task in a list of its own. Its
    key is made of the run's name, by which Airflow's provider looks for it."""
    own = {name: value for name, value in settings.items() if name.endswith("_task") or name in _OF_ONE_TASK}
    if settings.get("tasks") or not any(name.endswith("_task") for name in own):
        return dict(settings)
    key = re.sub(r"[^\w-]", "_", str(settings.get("name") or "main"))[:100]
    return {name: value for name, value in settings.items() if name not in own} | {"tasks": [{"task_key": key, **own}]}


def attempt(run_id: int, spec: TaskSpec, **more: Any) -> TaskRun:
    """A new attempt at a task."""
    return TaskRun(id=store.new_number(), run_id=run_id, key=spec.key, **more)


def _new(
    name: str, creator: str, settings: Mapping[str, Any], trigger: str, now: datetime, run_as: str, job_id: int | None,
    parameters: Mapping[str, str],
) -> Run:  # fmt: skip
    return Run(
        id=store.new_number(), job_id=job_id, name=name, creator=creator, run_as=run_as, settings=settings,
        parameters=parameters, trigger=trigger, state=State.RUNNING, result=Result.NONE, message="", cancelled=False,
        depth=0, parent_run_id=None, created_at=now, started_at=now, ended_at=None, due_at=now,
    )  # fmt: skip


def _below(run: Run, parent: Run | None) -> Run:
    """The run as one that another started."""
    return run if parent is None else replace(run, depth=parent.depth + 1, parent_run_id=parent.id)


def _added(connection: Connection, run: Run, token: str | None) -> int:
    run_id = store.add_run(connection, run, token)
    if run_id != run.id:
        return run_id
    if run.state is State.ENDED:
        notices.run_ended(connection, run, run.result, run.message)
    if run.state is State.RUNNING:
        notices.run_began(connection, run)
    if run.state is not State.ENDED:
        store.add_tasks(connection, [attempt(run.id, spec) for spec in specs_of(run.settings)])
    return run_id


def asked_parameters(settings: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The job's parameters with those that are given. Raises InvalidArgument for one that it has not."""
    known = {each["name"]: each["default"] for each in settings.get("parameters", ())}
    if unknown := sorted(set(given) - set(known)):
        raise InvalidArgument(f"The job has no parameter '{unknown[0][:60]}'; it has {', '.join(known) or 'none'}.")
    return known | dict(given)


def asked_settings(
    settings: Mapping[str, Any],
    listed: Mapping[Kind, Sequence[str] | None],
    given: Mapping[Kind, Mapping[str, Any] | None],
    only: Sequence[str] | None,
    *,
    of: Container[str] | None = None,
) -> Mapping[str, Any]:
    """The settings of one run: with other parameters of its tasks, or of those in `of`, and some of its tasks only.

    Raises InvalidArgument for tasks that are none, and parameters that no task takes.
    """
    tasks = [dict(task) for task in settings.get("tasks", ())]
    if only is not None:
        if unknown := sorted(set(only) - {task["task_key"] for task in tasks}):
            raise InvalidArgument(f"The job has no task '{unknown[0][:60]}'.")
        tasks = [task for task in tasks if task["task_key"] in only]
        for task in tasks:
            task["depends_on"] = [need for need in task.get("depends_on", ()) if need["task_key"] in only]
    for task in (each for each in tasks if of is None or each["task_key"] in of):
        for kind, words in listed.items():
            if words and kind.value in task:  # Airflow's workflows send an empty list where they mean none
                task[kind.value] = {**task[kind.value], _LISTED[kind]: list(words)}
        if (asked := given.get(Kind.PIPELINE)) and Kind.PIPELINE.value in task:
            task[Kind.PIPELINE.value] = {**task[Kind.PIPELINE.value], **asked}
        for named, field in _NAMED.items():
            if (more := given[named]) is not None and named.value in task:
                body = task[named.value]
                task[named.value] = {**body, field: {**(body.get(field) or {}), **more}}
    told = {**settings, "tasks": tasks}
    try:
        specs_of(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(f"Parameters: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    return told
