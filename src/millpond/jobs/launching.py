"""A task's process: its files, its rights, its limits, and how it ended."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from millpond.billing.domain import Subject, Used
from millpond.compute.drivers import Placement
from millpond.compute.job_clusters import JobClusters
from millpond.home import Home
from millpond.identity.domain import Principal
from millpond.jobs.code import Code, Fetched
from millpond.jobs.costs import TaskCosts, TaskMeter
from millpond.jobs.domain import JOB_RUN_TAG, JOB_TAG, TASK_RUN_TAG, Kind, Result, Run, TaskRun, TaskSpec
from millpond.jobs.project_run import ARTIFACTS
from millpond.jobs.sql_tasks import SqlTasks
from millpond.jobs.written import read_bounded, write_at_once
from millpond.kernel.clock import from_epoch_ms, utc_now
from millpond.kernel.environments import Environments
from millpond.kernel.packages import Packages, held
from millpond.kernel.process import Child, ChildSpec, end_of, spawn
from millpond.kernel.process_tree import kill_below
from millpond.kernel.settings import JobsSettings
from millpond.kernel.storable import storable
from millpond.kernel.zygote import Zygote, available
from millpond.reproduction.service import Doors

_MODULE = "millpond.jobs.task_process"
PRELOADED = (
    "millpond.engine.forwarder",
    "millpond.kernel.redaction",
    "millpond.kernel.process_tree",
    "millpond.jobs.notebook_run",
    "millpond.jobs.nested",
    "IPython.core.completerlib",
    "IPython.core.crashhandler",
    "IPython.core.magics",
    "logging",
)
"""What the module imports, but not the module itself, which is to run as `__main__`."""
_LARGEST_RESULT = 8 << 20
_LARGEST_KEPT = 32 << 20
_KEPT = ("notebook.ipynb", "output.json", ARTIFACTS)
"""What a task's process leaves for whoever asks later."""
_SHOWN_LOG_BYTES = 5 << 20
_LOOK_S = 0.5
CODE_PATHS = (
    *(f"/api/2.0/mlflow/{part}" for part in (
        "artifacts", "comments", "databricks", "experiments", "get-online-trace-details", "logged-models", "metrics",
        "model-versions", "registered-models", "runs", "traces", "transition-requests", "unified-traces",
        "unity-catalog",
    )),
    *(f"/api/3.0/mlflow/{part}" for part in (
        "datasets", "issues", "label-schemas", "logged-models", "prompt-optimization", "review-queues", "scorers",
        "server-info", "traces", "workspaces",
    )),
    *(f"/api/2.1/unity-catalog/{part}" for part in (
        "catalogs", "constraints", "current-metastore-assignment", "effective-permissions", "entity-tag-assignments",
        "functions", "metastore_summary", "metastores", "models", "schemas", "securable-tags", "staging-tables",
        "subentity-tags", "table-summaries", "tables", "temporary-model-version-credentials",
        "temporary-path-credentials", "temporary-table-credentials", "temporary-volume-credentials", "volumes",
    )),
    *(f"/api/2.0/secrets/{part}" for part in ("delete", "get", "list", "put", "scopes")),
    *(f"/api/{part}" for part in (
        "2.0/mlflow-artifacts", "2.0/fs", "2.0/serving-endpoints", "2.0/feature-store",
        "2.0/sql/config", "2.0/sql/history", "2.0/sql/queries", "2.0/sql/sessions", "2.0/sql/statements",
        "2.0/sql/warehouses",
        "2.0/preview/scim/v2/Me", "2.2/jobs/get", "2.2/jobs/list", "2.2/jobs/runs/get", "2.2/jobs/runs/get-output",
        "2.2/jobs/runs/list", "2.0/workspace/export", "2.0/workspace/get-status", "2.0/workspace/list",
    )),
    "/api/millpond/captures", "/api/millpond/runs", "/api/millpond/online-tables",
    "/api/millpond/scoring", "/serving-endpoints", "/v1/traces",
    "/version", "/spark.connect.SparkConnectService",
)  # fmt: skip
"""What a task's token is good for: data (with the temporary credentials of its files), models and secrets, but no
credentials of people, rights, webhooks or accounts; neither jobs, alerts nor changes of notebooks. What is not here
would outlive the task; a new route is not here until somebody puts it here."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a task's process ended."""

    result: Result
    message: str = ""
    error: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    used: Sequence[tuple[Subject, Used]] = ()
    """What its processes used, that is not written yet."""


class Launcher:
    """Runs code in confined children; the one place that knows where their files are."""

    def __init__(
        self,
        *,
        data_dir: Path,
        settings: JobsSettings,
        code: Code,
        sql: SqlTasks,
        environments: Environments,
        clusters: JobClusters,
        doors: Doors,
        costs: TaskCosts,
        mint: Callable[..., str],
        principal_named: Callable[[str], Principal],
    ) -> None:
        self._root = data_dir / "jobs"
        self.server = Home(data_dir).server_name()
        self._logs = data_dir / "logs" / "jobs"
        self._settings = settings
        self._code = code
        self._sql = sql
        self._environments = environments
        self._clusters = clusters
        self._doors = doors
        self._costs = costs
        self._mint = mint
        self._principal_named = principal_named
        self._zygote = Zygote(PRELOADED, env={}, log_path=data_dir / "logs" / "jobs.log") if available() else None

    def close(self) -> None:
        """End what tasks are started with, and all tasks."""
        if self._zygote is not None:
            self._zygote.close()

    def began(self, task: TaskRun) -> bool:
        """Whether the code's first line may have run."""
        try:
            return (self._directory(task) / "began").exists()
        except OSError:  # its directory is its own to close: who does that has begun
            return True

    def began_at(self, task: TaskRun) -> datetime | None:
        """When its first line ran, if it did; the file is the script's to touch, so no other time than the task's."""
        try:
            told = (self._directory(task) / "began").stat().st_mtime
        except OSError:
            return None
        now = utc_now().timestamp()
        first = task.started_at.timestamp() if task.started_at else now
        return from_epoch_ms(int(min(max(told, first), now) * 1000))

    def told(self, task: TaskRun) -> Ended | None:
        """How the code ended, where it came to its end."""
        found = _read(self._directory(task) / "result.json")
        if found is None:
            return None
        if found.get("ok") is True:
            return Ended(result=Result.SUCCESS, values=_object(found.get("values")))
        message, error = str(found.get("message", ""))[:2000], str(found.get("error", ""))[:20000]
        return Ended(result=Result.FAILED, message=message, error=error, values=_object(found.get("values")))

    def keep(self, task: TaskRun) -> None:
        """Put aside what the task left for later, before anybody is told that it ended; harmless when done again."""
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in _KEPT:
            found = read_bounded(self._directory(task) / name, _LARGEST_KEPT)
            if found is not None:
                write_at_once(self._kept(task.id, name), found)

    def kept(self, task_id: int, name: str) -> dict[str, Any] | None:
        """What a task left under a name, while it runs too, where it is a JSON object."""
        place = self._kept(task_id, name)
        return _read(place if place.is_file() else self._root / str(task_id) / name, _LARGEST_KEPT)

    def artifacts(self, task_id: int) -> bytes | None:
        """What dbt left, packed as tar with gzip, once the task has ended."""
        return read_bounded(self._kept(task_id, ARTIFACTS), _LARGEST_KEPT)

    def _kept(self, task_id: int, name: str) -> Path:
        return self._logs / f"{task_id}.{name}"

    def forget(self, task_id: int) -> None:
        """Remove a task's files; its log and what it left stay."""
        shutil.rmtree(self._root / str(task_id), ignore_errors=True)

    def directories(self) -> list[int]:
        """The ids of tasks that have files here."""
        return [int(place.name) for place in self._root.iterdir() if place.name.isdecimal()]

    def forget_log(self, task_id: int) -> None:
        """Remove the log of a task that is removed too, and what it left."""
        for place in (self.log_path(task_id), *(self._kept(task_id, name) for name in _KEPT)):
            place.unlink(missing_ok=True)

    def log_path(self, task_id: int) -> Path:
        """Where a task's output is written."""
        return self._logs / f"{task_id}.log"

    def log(self, task_id: int) -> tuple[str, bool]:
        """What a task printed, and whether its beginning is left out."""
        path = self.log_path(task_id)
        if not path.is_file():
            return "", False
        return end_of(path, _SHOWN_LOG_BYTES), path.stat().st_size > _SHOWN_LOG_BYTES

    def run(
        self,
        run: Run,
        spec: TaskSpec,
        task: TaskRun,
        values: Mapping[str, Mapping[str, Any]],
        *,
        stop: Callable[[], Result | None],
        placed: Callable[[str], None],
    ) -> Ended | None:
        """Run the code to its end. Blocks. `stop` is asked twice a second, and says why it is to end; None where
        somebody else has the task, or the server ends: then nothing is known of it. `placed` hears on which cluster.

        Raises MillpondError for code that cannot be had.
        """
        principal = self._principal_named(run.run_as)
        directory = self._directory(task)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        timeout_s = min(spec.timeout_s or self._settings.timeout_s, self._settings.timeout_s)
        if spec.kind in (Kind.SQL, Kind.ALERT):
            done = self._sql.run(principal, run, spec, task.order, directory, timeout_s=timeout_s, stop=stop)
            return None if done.result is None else Ended(result=done.result, message=done.message)
        code = self._code.get(principal, run, spec, task, directory)
        with ExitStack() as stack:
            place = self._place(stack, principal, run, spec, task, stop, placed)
            if (why := stop()) is not Result.NONE:
                return None if why is None else Ended(result=why)
            packages = stack.enter_context(self._packages(spec, code, place))
            token = self._mint(principal, timeout_s + 60, paths=CODE_PATHS)  # its time is not that of building
            variables = self._doors.variables(token) | _context(run, task)
            if place is not None:
                variables = {**place.variables, **variables, "SPARK_REMOTE": place.remote(variables["SPARK_REMOTE"])}
            order = {
                **code.order, "values": values, "token": token, "variables": variables,
                "secrets": list(place.secrets) if place else [],
                "file_bytes": self._settings.file_limit_bytes,
                "paths": [*code.order.get("beside", ()), *packages.paths],
                "wheels": [*code.order["wheels"], *(place.copied_wheels(directory) if place else ())],
            }  # fmt: skip
            (directory / "order.json").write_text(json.dumps(order))
            if (why := stop()) is not Result.NONE:
                return None if why is None else Ended(result=why)
            child = self._start(task, packages, place)
            meter = self._costs.of_task(run, task, child, place.cluster if place else None)
            try:
                ended = self._watch(task, child, time.monotonic() + timeout_s, stop, meter)
            finally:
                kill_tree(child)
                rest = meter.rest()
            if ended is None:
                self._costs.meter.note(*rest)
                return None
            return replace(ended, used=(rest,))

    def _place(
        self, stack: ExitStack, principal: Principal, run: Run, spec: TaskSpec, task: TaskRun,
        stop: Callable[[], Result | None], placed: Callable[[str], None],
    ) -> Placement | None:  # fmt: skip
        """Where the task says that it runs, until the stack is closed; None beside the server. Raises MillpondError."""
        if spec.cluster is None:
            return None
        asked = self._clusters.place(
            principal, spec.cluster, run_id=run.id, task_id=task.id, told=placed,
            goes_on=lambda: stop() is Result.NONE,
        )  # fmt: skip
        return stack.enter_context(asked)

    def _packages(self, spec: TaskSpec, code: Fetched, place: Placement | None) -> AbstractContextManager[Packages]:
        """On a cluster what its runtime and libraries have, and what the task asks for besides."""
        if place is not None:
            return place.packages([*code.own, *code.more])
        notebook = spec.kind is Kind.NOTEBOOK
        return held(self._environments, own=code.own, more=code.more, notebook=notebook)

    def _start(self, task: TaskRun, packages: Packages, place: Placement | None) -> Child:
        directory = self._directory(task)
        home = str(directory)
        spec = ChildSpec(
            module=_MODULE,
            args=(home, *self._doors.ways_out),
            env={
                "HOME": home,
                "TMPDIR": home,
                "MPLCONFIGDIR": home,
                "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for each other by turning take the cores from all
                "PYTHONUNBUFFERED": "1",
                "MILLPOND_CAPTURE": "off",
            },
            log_path=self.log_path(task.id),
            memory_bytes=place.memory_bytes if place else self._settings.memory_limit_bytes,
            sandbox=True,
            readable=packages.readable,
            writable=(directory,),
            own_network=True,
            unix_sockets=True,  # with which data loaders and managers of processes work
            python=packages.python,
            cwd=directory,
            nice=5,
        )
        if place is not None:
            return place.spawn(spec)
        return self._zygote.spawn(spec) if self._zygote else spawn(spec)

    def _watch(
        self, task: TaskRun, child: Child, deadline: float, stop: Callable[[], Result | None], meter: TaskMeter
    ) -> Ended | None:
        looked = time.monotonic()
        while child.running:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
            now = time.monotonic()
            if now > deadline:
                return Ended(result=Result.TIMED_OUT, message="The task took longer than it may.")
            meter.look()
            if now - looked > _LOOK_S:
                looked = now
                if (why := stop()) is not Result.NONE:
                    return None if why is None else Ended(result=why)
        if stop() is None:  # so that a child that ended with its server is not taken for one that failed
            return None
        code = child.process.poll()
        died = Ended(result=Result.FAILED, message=f"The task's process was ended with code {code}.")
        return self.told(task) or died

    def _directory(self, task: TaskRun) -> Path:
        return self._root / str(task.id)


def kill_tree(child: Child) -> None:
    """End a task's process and all that it started, also what made a session of its own: that is below it still."""
    if child.running:
        kill_below(child.pid)
    child.kill()


def _context(run: Run, task: TaskRun) -> dict[str, str]:
    """What MLflow's client puts on each run that the script makes, so that it is found from the task."""
    tags = {JOB_RUN_TAG: str(run.id), TASK_RUN_TAG: str(task.id)} | ({JOB_TAG: str(run.job_id)} if run.job_id else {})
    return {"MLFLOW_RUN_CONTEXT": json.dumps(tags)}


def _read(path: Path, most_bytes: int = _LARGEST_RESULT) -> dict[str, Any] | None:
    """A JSON object that a task's process wrote, whatever else it may have put there."""
    found = read_bounded(path, most_bytes)
    try:
        told = storable(json.loads(found or b""))
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
