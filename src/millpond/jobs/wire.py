"""Jobs and runs as the Jobs API 2.1 and 2.2 show them.

Source: databricks-sdk 0.156, `databricks/sdk/service/jobs.py`, whose waiters end at TERMINATED and SKIPPED.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.jobs.domain import Job, Kind, Result, Run, State, TaskRun
from millpond.jobs.inputs import Strict, Text
from millpond.jobs.outputs import Output, Shown
from millpond.jobs.planning import current
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import NotImplementedHere
from millpond.workspace.notebooks import from_jupyter
from millpond.workspace.rendering import to_html

_NOT_HERE = ("jar_params", "spark_submit_params")
_CODES = {
    Result.CANCELED: "USER_CANCELED", Result.FAILED: "RUN_EXECUTION_ERROR", Result.TIMED_OUT: "RUN_EXECUTION_ERROR",
    Result.TOO_MANY: "MAX_CONCURRENT_RUNS_EXCEEDED", Result.DISABLED: "DISABLED",
    Result.SUCCESS: "SUCCESS", Result.SUCCESS_WITH_FAILURES: "SUCCESS_WITH_FAILURES",
}  # fmt: skip


class PipelineParamsInput(Strict):
    """What updates of pipelines do."""

    full_refresh: bool | None = None
    full_refresh_selection: list[Text] | None = None
    refresh_selection: list[Text] | None = None
    parameters: dict[Text, Text] | None = None


class _Asked(BaseModel):
    model_config = ConfigDict(extra="allow")

    job_parameters: dict[str, Text] | None = None
    python_params: list[Text] | None = None
    notebook_params: dict[Text, Text] | None = None
    python_named_params: dict[Text, Text] | None = None
    sql_params: dict[Text, Text] | None = None
    pipeline_params: PipelineParamsInput | None = None
    dbt_commands: list[Text] | None = None

    @property
    def pipeline(self) -> dict[str, Any] | None:
        """What an update is to do otherwise than its task says."""
        return self.pipeline_params.model_dump(exclude_none=True) if self.pipeline_params else None

    def check(self) -> None:
        """Raises NotImplementedHere for parameters of tasks that Millpond does not have."""
        for name in _NOT_HERE:
            if (self.model_extra or {}).get(name):
                raise NotImplementedHere(f"{name} are for tasks that this Millpond's jobs do not have.")


class RunNowInput(_Asked):
    """`run-now`."""

    job_id: int
    idempotency_token: str | None = Field(default=None, max_length=64)
    only: list[str] | None = None
    queue: dict[str, bool] | None = None


class RepairInput(_Asked):
    """`runs/repair`."""

    run_id: int
    rerun_tasks: list[str] | None = None
    rerun_all_failed_tasks: bool = False
    rerun_dependent_tasks: bool = False
    latest_repair_id: int | None = None


class ResetInput(BaseModel):
    """`reset`."""

    job_id: int
    new_settings: dict[str, Any]


class UpdateInput(BaseModel):
    """`update`."""

    job_id: int
    new_settings: dict[str, Any] = {}
    fields_to_remove: list[str] = []


class JobInput(BaseModel):
    """What names a job."""

    job_id: int


class CancelAllInput(BaseModel):
    """`runs/cancel-all`."""

    job_id: int
    all_queued_runs: bool = False


class RunInput(BaseModel):
    """What names a run."""

    run_id: int


def job_json(job: Job, *, whole: bool) -> dict[str, Any]:
    """A job; in a list without its tasks, unless they are asked for."""
    settings = dict(job.settings) | {"name": job.name, "format": "MULTI_TASK", "max_concurrent_runs": job.most_runs}
    if not whole:
        settings = {
            name: value for name, value in settings.items() if name not in ("tasks", "environments", "job_clusters")
        }
    return {
        "job_id": job.id,
        "creator_user_name": job.creator,
        "run_as_user_name": job.run_as,
        "created_time": epoch_ms(job.created_at),
        "settings": settings,
    }


def run_json(shown: Shown, base_url: str, *, tasks: bool = True, history: bool = False) -> dict[str, Any]:
    """A run with its tasks' runs, or one task run, where that alone is shown.

    With `history` a run that was not repaired has one too: Airflow's provider counts its entries.
    """
    run = shown.run
    told = {
        **state_json(run.state, run.result, _message(shown), ending=run.cancelled),
        **_times(run.created_at, run.started_at, run.ended_at),
        "run_id": run.id,
        "job_run_id": run.id,
        "job_id": run.job_id or 0,
        "number_in_job": run.id,
        "original_attempt_run_id": run.id,
        "run_name": run.name,
        "run_type": "JOB_RUN" if run.job_id else "SUBMIT_RUN",
        "trigger": run.trigger,
        "creator_user_name": run.creator,
        "run_page_url": f"{base_url}/jobs/runs/{run.id}",
        "format": "MULTI_TASK",
        "job_parameters": [{"name": name, "value": value} for name, value in run.parameters.items()],
        "repair_history": _repairs(shown) if run.repairs or history else [],
    }
    if "git_source" in run.settings:
        told["git_source"] = run.settings["git_source"]
    if tasks:
        told["tasks"] = [task_json(run, each, shown.tasks, base_url) for each in _top(shown.tasks)]
    return told


def task_run_json(shown: Shown, base_url: str) -> dict[str, Any]:
    """A task run in the place of a run: the first of those shown; iterations with it."""
    task, *rest = shown.tasks
    told = run_json(shown, base_url, tasks=False) | task_json(shown.run, task, shown.tasks, base_url)
    return {
        **told,
        "job_run_id": shown.run.id,
        "run_name": task.key,
        "tasks": [task_json(shown.run, task, shown.tasks, base_url)],
        "iterations": [task_json(shown.run, each, shown.tasks, base_url) for each in rest],
    }


def task_json(run: Run, task: TaskRun, tasks: Iterable[TaskRun], base_url: str) -> dict[str, Any]:
    """A task run, with its task as the job says it."""
    stated = next((dict(each) for each in run.settings["tasks"] if each["task_key"] == task.key), {})
    told = {
        **stated,
        **state_json(task.state, task.result, task.message, ending=run.cancelled),
        **_times(task.started_at or run.created_at, task.started_at, task.ended_at, task.began_at),
        "run_id": task.id,
        "task_key": task.key,
        "attempt_number": task.attempt,
        "run_page_url": f"{base_url}/jobs/runs/{run.id}/tasks/{task.key}?attempt={task.id}",
    }
    if task.cluster_id:
        told["cluster_instance"] = {"cluster_id": task.cluster_id}
    if task.order and Kind.CONDITION in stated:
        told[Kind.CONDITION] = {**task.order, "outcome": task.outcome}
    if Kind.FOR_EACH in stated:
        told[Kind.FOR_EACH] = {**stated[Kind.FOR_EACH], "stats": _stats(task, tasks)}
    return told


def state_json(state: State, result: Result, message: str, *, ending: bool) -> dict[str, Any]:
    """The states of both generations of the API."""
    ended = state is State.ENDED
    life = "TERMINATING" if ending and state is State.RUNNING else state.value
    life = "SKIPPED" if result is Result.TOO_MANY else life
    newer = {"WAITING_FOR_RETRY": "WAITING", "SKIPPED": "TERMINATED"}.get(life, life)
    told: dict[str, Any] = {"life_cycle_state": life, "state_message": message}
    status: dict[str, Any] = {"state": newer}
    if ended:
        told |= {"result_state": result.value}
        told["user_cancelled_or_timedout"] = result in (Result.CANCELED, Result.TIMED_OUT)
        code = _CODES.get(result, "SKIPPED")
        kind = "SUCCESS" if result in (Result.SUCCESS, Result.SUCCESS_WITH_FAILURES) else "CLIENT_ERROR"
        status["termination_details"] = {"code": code, "type": kind, "message": message}
    return {"state": told, "status": status}


def output_json(output: Output, base_url: str) -> dict[str, Any]:
    """What a task run printed and left."""
    task = output.task
    alone = Shown(run=output.shown.run, tasks=(task,))
    told: dict[str, Any] = {
        "metadata": task_run_json(alone, base_url),
        "logs": output.log,
        "logs_truncated": output.truncated,
    }
    told |= _left(output.left or {}, f"{base_url}/api/millpond/jobs/runs/artifacts?run_id={task.id}")
    if task.result is Result.FAILED:
        told |= {"error": task.message, "error_trace": task.error}
    if task.child_run_id is not None and "update_id" in task.order:
        known = {name: task.order[name] for name in ("pipeline_id", "update_id")}
        told["pipeline_output"] = {**known, "run_id": task.child_run_id}
    elif task.child_run_id is not None:
        told["run_job_output"] = {"run_id": task.child_run_id}
    return told


def _left(left: Mapping[str, Any], artifacts_link: str) -> dict[str, Any]:
    """What a notebook ended with, a warehouse answered, or a project left."""
    if left.get("artifacts"):
        return {"dbt_output": {"artifacts_link": artifacts_link, "artifacts_headers": {}}}
    if "mlflow_run_id" in left:
        return {"mlflow_project_output": {"run_id": str(left["mlflow_run_id"])}}
    for name in ("sql_output", "alert_output"):
        if name in left:
            return {name: left[name]}
    if "result" in left:
        return {"notebook_output": {"result": str(left["result"]), "truncated": bool(left.get("truncated"))}}
    return {}


def export_json(shown: Shown, notebook: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook that ran, as a page."""
    name = shown.tasks[0].key
    cells = from_jupyter(json.dumps(notebook).encode())
    return {"views": [{"type": "NOTEBOOK", "name": name, "content": to_html(cells, name)}]}


def _top(tasks: Sequence[TaskRun]) -> list[TaskRun]:
    return [task for task in tasks if task.parent_id is None]


def _message(shown: Shown) -> str:
    """Why a run failed: what its first failed task says."""
    if shown.run.message or shown.run.result is not Result.FAILED:
        return shown.run.message
    failed = [task for task in current(shown.tasks).values() if task.result in (Result.FAILED, Result.TIMED_OUT)]
    return f"Task {failed[0].key} failed: {failed[0].message}" if failed else ""


def _times(
    made: datetime, started: datetime | None, ended: datetime | None, began: datetime | None = None
) -> dict[str, int]:
    """Milliseconds; 0 for what has not come yet, as the API says it."""
    took = epoch_ms(ended) - epoch_ms(started) if started and ended else 0
    set_up = epoch_ms(began) - epoch_ms(started) if started and began else 0
    return {
        "start_time": epoch_ms(made), "end_time": epoch_ms(ended) if ended else 0, "setup_duration": set_up,
        "execution_duration": took - set_up, "cleanup_duration": 0, "run_duration": took,
    }  # fmt: skip


def _stats(parent: TaskRun, tasks: Iterable[TaskRun]) -> Mapping[str, Any]:
    own = sorted((task for task in tasks if task.parent_id == parent.id), key=lambda task: task.attempt)
    latest = {task.iteration: task for task in own}.values()
    ended = [task for task in latest if task.ended]
    good = sum(task.result is Result.SUCCESS for task in ended)
    counts = {
        "total_iterations": len(latest), "scheduled_iterations": len(latest),
        "active_iterations": len(latest) - len(ended),
        "completed_iterations": len(ended), "succeeded_iterations": good, "failed_iterations": len(ended) - good,
    }  # fmt: skip
    return {"task_run_stats": counts}


def _repairs(shown: Shown) -> list[dict[str, Any]]:
    run = shown.run
    told = [
        {"type": "REPAIR", "id": each["id"], "start_time": each["start_ms"], "task_run_ids": each["tasks"]}
        for each in run.repairs
    ]
    repaired = {task_id for each in run.repairs for task_id in each["tasks"]}
    first = [task.id for task in _top(shown.tasks) if task.id not in repaired]
    original = {"type": "ORIGINAL", "start_time": epoch_ms(run.created_at), "task_run_ids": first}
    told = [original, *told]
    told[-1] |= state_json(run.state, run.result, run.message, ending=run.cancelled)
    return told
