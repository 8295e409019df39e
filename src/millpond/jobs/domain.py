"""What a job's tasks are, what became of them, and the names under which the Jobs API knows that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from millpond.compute.domain import Wanted
from millpond.identity.access import Securable

UNLIMITED = -1
"""As `max_retries`."""
MOST_DEPTH = 3
"""Runs that start runs (`run_job_task`), above each other. Source: Databricks' limit."""

JOB_TAG = "mlflow.databricks.jobID"
JOB_RUN_TAG = "mlflow.databricks.jobRunID"
TASK_RUN_TAG = "millpond.taskRunID"
"""Tags of MLflow runs that tasks make; the first two are MLflow's own (`mlflow.utils.mlflow_tags`)."""
STARTERS = ("trigger", "schedule", "continuous")
"""Settings that start runs by themselves; each can be paused."""


class Kind(StrEnum):
    """What a task does; the values are the fields of the Jobs API."""

    PYTHON = "spark_python_task"
    NOTEBOOK = "notebook_task"
    WHEEL = "python_wheel_task"
    SQL = "sql_task"
    ALERT = "alert_task"
    SCORING = "model_scoring_task"
    """Ours: the official API has no such task."""
    DBT = "dbt_task"
    MLFLOW = "mlflow_project_task"
    """A project of MLflow; the Jobs API has no such task."""
    CONDITION = "condition_task"
    FOR_EACH = "for_each_task"
    RUN_JOB = "run_job_task"
    PIPELINE = "pipeline_task"
    UPDATE = "pipeline_update_task"
    """The server's own: what the run of an update does, which a `pipeline_task` or the Pipelines API starts."""

    @property
    def starts_run(self) -> bool:
        """Whether it starts another run, and ends as that does."""
        return self in (Kind.RUN_JOB, Kind.PIPELINE)

    @property
    def has_process(self) -> bool:
        """Whether it runs code of users, or waits for what does, and so has a lease."""
        return self not in (Kind.CONDITION, Kind.FOR_EACH) and not self.starts_run


class Place(StrEnum):
    """Who may run a task's code."""

    ANYWHERE = ""
    """A server, or a worker."""
    SERVER = "server"
    CLUSTER = "cluster"
    """A server, once the task has a cluster."""
    ASSIGNED = "assigned"
    """The server of its cluster, once that runs."""
    STARTED = "started"
    """The same, where that was started for the task; it is not started again where it ends before the task begins."""

    @property
    def has_cluster(self) -> bool:
        """Whether the task has a cluster."""
        return self in (Place.ASSIGNED, Place.STARTED)


class State(StrEnum):
    """Where a run or a task run stands."""

    BLOCKED = "BLOCKED"
    """A task whose dependencies have not ended; an iteration that is not due."""
    QUEUED = "QUEUED"
    """A task that waits for a process; a run that waits for others of its job."""
    WAITING = "WAITING_FOR_RETRY"
    RUNNING = "RUNNING"
    ENDED = "TERMINATED"


class Result(StrEnum):
    """How it ended."""

    NONE = ""
    SUCCESS = "SUCCESS"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"
    FAILED = "FAILED"
    TIMED_OUT = "TIMEDOUT"
    CANCELED = "CANCELED"
    EXCLUDED = "EXCLUDED"
    """Its `run_if` or an outcome that it depends on was not met."""
    DISABLED = "DISABLED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    UPSTREAM_CANCELED = "UPSTREAM_CANCELED"
    TOO_MANY = "MAXIMUM_CONCURRENT_RUNS_REACHED"


class RunIf(StrEnum):
    """When a task runs, once all that it depends on has ended."""

    ALL_SUCCESS = "ALL_SUCCESS"
    AT_LEAST_ONE_SUCCESS = "AT_LEAST_ONE_SUCCESS"
    NONE_FAILED = "NONE_FAILED"
    ALL_DONE = "ALL_DONE"
    AT_LEAST_ONE_FAILED = "AT_LEAST_ONE_FAILED"
    ALL_FAILED = "ALL_FAILED"


@dataclass(frozen=True, kw_only=True)
class Need:
    """A task that another depends on, and of a condition its outcome (`true`, `false`)."""

    key: str
    outcome: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A task as its job says it."""

    key: str
    kind: Kind
    body: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    run_if: RunIf = RunIf.ALL_SUCCESS
    max_retries: int = 0
    retry_pause: timedelta = timedelta()
    retry_on_timeout: bool = False
    timeout_s: int = 0
    """0 for none."""
    disabled: bool = False
    requirements: tuple[str, ...] = ()
    """Packages besides Python's own; none for the server's environment."""
    requirement_files: tuple[str, ...] = ()
    """Files that name more of them, by their paths."""
    wheels: tuple[str, ...] = ()
    """By their paths."""
    cluster: Wanted | None = None
    """Where it runs; None beside the server, with the server's own limits."""
    from_git: bool = False
    """Whether its code is in the repository of its job."""
    nested: "TaskSpec | None" = None
    """What `for_each_task` does for each input."""

    @property
    def place(self) -> Place:
        """Who may run it; what waits for SQL runs no process."""
        if self.cluster is not None:
            return Place.CLUSTER
        return Place.SERVER if self.kind in (Kind.SQL, Kind.ALERT) else Place.ANYWHERE


@dataclass(frozen=True, kw_only=True)
class Job:
    """Settings under a number."""

    id: int
    name: str
    creator: str
    run_as: str
    """Stays when the job is given to somebody else; only `run_as` in its settings changes it."""
    settings: Mapping[str, Any]
    created_at: datetime
    trigger_kind: str = ""
    """What starts it by itself (`triggers.When`); empty for nothing, and while that is paused."""
    next_fire_at: datetime | None = None
    """When its schedule starts the next run, or what its trigger watches is looked at."""

    @property
    def securable(self) -> Securable:
        """The job under permission; whoever it runs as owns nothing by that."""
        return Securable(kind="job", name=str(self.id), owners=(self.creator,), ids=(f"job:{self.id}",))

    @property
    def most_runs(self) -> int:
        """Runs at once."""
        return int(self.settings.get("max_concurrent_runs", 1))

    @property
    def queues(self) -> bool:
        """Whether a run over the limit waits; else it is skipped."""
        return bool((self.settings.get("queue") or {}).get("enabled"))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One go through the tasks. `settings` are those of the moment in which it was asked for."""

    id: int
    job_id: int | None
    """None for tasks that were submitted without a job."""
    name: str
    creator: str
    run_as: str
    settings: Mapping[str, Any]
    parameters: Mapping[str, str]
    trigger: str
    state: State
    result: Result
    message: str
    cancelled: bool
    depth: int
    """0, or one more than that of the run of which a task started it."""
    parent_run_id: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    repairs: tuple[Mapping[str, Any], ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)
    """What its trigger saw: the values of `{{job.trigger.NAME}}`."""
    due_at: datetime | None = None
    """When it is to be looked at next, if nothing comes of it before."""
    slow_told: bool = False
    """Whether somebody was told that it takes longer than expected."""
    pipeline_id: str | None = None
    """Of an update: its pipeline, by whose permissions it is seen and cancelled."""

    def securable(self, job_owner: str | None) -> Securable:
        """The run under its job's permissions."""
        return _run_securable(self, job_owner)

    @property
    def deadline(self) -> datetime | None:
        """When it has taken too long."""
        timeout_s = int(self.settings.get("timeout_seconds", 0))
        return self.started_at + timedelta(seconds=timeout_s) if timeout_s and self.started_at else None

    def stopping(self, now: datetime) -> Result:
        """CANCELED or TIMED_OUT where what is left of it is not to be done."""
        if self.cancelled:
            return Result.CANCELED
        return Result.TIMED_OUT if self.deadline and now >= self.deadline else Result.NONE


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What lists tell of a run: all but what it is made of."""

    id: int
    job_id: int | None
    name: str
    creator: str
    run_as: str
    trigger: str
    state: State
    result: Result
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    pipeline_id: str | None = None
    job_owner: str | None
    """None without a job, and of one that is gone."""

    @property
    def securable(self) -> Securable:
        """The run under its job's permissions."""
        return _run_securable(self, self.job_owner)


def _run_securable(run: Run | Glance, job_owner: str | None) -> Securable:
    """A run keeps none of its job's permissions when that is gone; who asked for it has no rights by that, as a repair
    runs code as somebody else. One without a job is its creator's, who of an update is its pipeline's owner."""
    owner = job_owner or (run.creator if run.job_id is None else run.run_as)
    if run.pipeline_id is not None:
        held = (f"pipeline:{run.pipeline_id}",)
        return Securable(kind="pipeline", name=f"run {run.id}", owners=(owner,), ids=held)
    ids = () if run.job_id is None else (f"job:{run.job_id}",)
    return Securable(kind="job", name=f"run {run.id}", owners=(owner,), ids=ids)


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """One attempt at a task."""

    id: int
    run_id: int
    key: str
    parent_id: int | None = None
    """Of an iteration: the task run of its `for_each_task`."""
    iteration: int | None = None
    input: Any = None
    """Of an iteration: what `{{input}}` stands for."""
    attempt: int = 0
    retry: int = 0
    """How many came before it since the run was begun or repaired."""
    state: State = State.BLOCKED
    result: Result = Result.NONE
    message: str = ""
    order: Mapping[str, Any] = field(default_factory=dict)
    """The task's body with its references resolved, once it was begun."""
    outcome: str = ""
    """Of a condition: `true` or `false`."""
    child_run_id: int | None = None
    task_values: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """What a failed process said, to its owner."""
    due_at: datetime | None = None
    started_at: datetime | None = None
    began_at: datetime | None = None
    """When its code began, after its process was set up; of a server's own task known once it has ended."""
    ended_at: datetime | None = None
    slow_told: bool = False
    server: str = ""
    """Which server runs it, and has its files."""
    worker: str = ""
    """Which worker runs it; none for a server's own tasks."""
    machine: str = ""
    """The name of that worker, or the host of the server; it stays when they are gone."""
    place: Place = Place.ANYWHERE
    cluster_id: str = ""
    """On which cluster it runs."""
    lease: str = ""
    loan: str = ""
    """On what its tokens hang while it is held."""
    leased_until: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of this attempt."""
        return self.state is State.ENDED
