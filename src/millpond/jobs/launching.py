"""A task's turn on this server: its code is got, and its process runs, here or on a cluster."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from millpond.compute.drivers import Placement
from millpond.compute.job_clusters import JobClusters
from millpond.identity.domain import Principal, Work
from millpond.identity.service import IdentityService
from millpond.jobs.carrying import Carrier, Order, Stop
from millpond.jobs.code import Code
from millpond.jobs.costs import TaskCosts
from millpond.jobs.domain import JOB_RUN_TAG, JOB_TAG, TASK_RUN_TAG, Kind, Run, TaskRun, TaskSpec
from millpond.jobs.sql_tasks import SqlTasks
from millpond.jobs.task_files import Ended, TaskFiles
from millpond.kernel.settings import JobsSettings

_SET_UP_S = 1800.0
"""A token lives so much longer than its task may run, for what comes before the first line."""
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
    "/api/millpond/captures", "/api/millpond/pipelines/updates/events", "/api/millpond/runs",
    "/api/millpond/online-tables", "/api/millpond/scoring", "/serving-endpoints", "/v1/traces",
    "/version", "/spark.connect.SparkConnectService",
)  # fmt: skip
"""What a task's token is good for: data (with the temporary credentials of its files), models and secrets, but no
credentials of people, rights, webhooks or accounts; neither jobs, alerts nor changes of notebooks. What is not here
would outlive the task; a new route is not here until somebody puts it here."""


class Launcher:
    """Runs tasks, and prepares those that run elsewhere."""

    def __init__(
        self,
        *,
        files: TaskFiles,
        carrier: Carrier,
        server: str,
        settings: JobsSettings,
        code: Code,
        sql: SqlTasks,
        clusters: JobClusters,
        costs: TaskCosts,
        lend: Callable[[Principal, float, Run, TaskRun], str],
        principal_named: Callable[[str], Principal],
    ) -> None:
        self.files = files
        self.carrier = carrier
        self.server = server
        self.clusters = clusters
        self._settings = settings
        self._code = code
        self._sql = sql
        self._costs = costs
        self._lend = lend
        self._principal_named = principal_named

    def run(
        self, run: Run, spec: TaskSpec, task: TaskRun, values: Mapping[str, Mapping[str, Any]], *, stop: Stop
    ) -> Ended | None:
        """Run the code to its end. Blocks. None where nothing is known of it, as somebody else has the task.

        Raises MillpondError for code that cannot be had.
        """
        if spec.kind in (Kind.SQL, Kind.ALERT):
            principal = replace(self._principal_named(run.run_as), work=work_of(run, task))
            done = self._sql.run(
                principal, run, spec, task.order, self.files.fresh(task.id), timeout_s=self._timeout_s(spec), stop=stop
            )
            return None if done.result is None else Ended(result=done.result, message=done.message)
        meter = self._costs.of_task(run, task)
        with self._place(run, spec, task) as place:
            order = self.prepare(run, spec, task, values, self.files.fresh(task.id))
            ended = self.carrier.run(task.id, order, stop=stop, meter=meter, place=place)
        if ended is None:
            self._costs.note(meter)
        return ended

    def _place(self, run: Run, spec: TaskSpec, task: TaskRun) -> AbstractContextManager[Placement | None]:
        """Where a task runs: on the cluster that was assigned to it; None beside the server. Raises MillpondError."""
        if spec.cluster is None:
            return nullcontext()
        return self.clusters.place(self._principal_named(run.run_as), spec.cluster, task.cluster_id)

    def prepare(
        self, run: Run, spec: TaskSpec, task: TaskRun, values: Mapping[str, Mapping[str, Any]], directory: Path
    ) -> Order:
        """Get a task's code into a directory, with the rights of whom it runs as, and say how it is run. Blocks.

        Raises MillpondError for code that cannot be had.
        """
        principal = self._principal_named(run.run_as)
        code = self._code.get(principal, run, spec, task, directory)
        timeout_s = self._timeout_s(spec)
        return Order(
            code={**code.order, "values": values},
            own=code.own,
            more=code.more,
            notebook=spec.kind is Kind.NOTEBOOK,
            token=self._lend(principal, timeout_s + _SET_UP_S, run, task),
            context=_context(run, task),
            memory_bytes=self._settings.memory_limit_bytes,
            file_bytes=self._settings.file_limit_bytes,
            timeout_s=timeout_s,
        )

    def assign(self, run: Run, spec: TaskSpec, task: TaskRun) -> tuple[str, bool]:
        """The cluster of a task, which is made, or started where it has ended, and whether it was. Raises
        MillpondError."""
        assert spec.cluster is not None
        principal = self._principal_named(run.run_as)
        return self.clusters.assign(principal, spec.cluster, run_id=run.id, task_id=task.id)

    def _timeout_s(self, spec: TaskSpec) -> float:
        return min(spec.timeout_s or self._settings.timeout_s, self._settings.timeout_s)


def lender(identity: IdentityService) -> Callable[[Principal, float, Run, TaskRun], str]:
    """What gives a token of somebody that is good for the code of a task, for so many seconds at most, and while it is
    held under the lease that it has now."""

    def lend(principal: Principal, ttl_s: float, run: Run, task: TaskRun) -> str:
        return identity.borrowed(principal, ttl_s, paths=CODE_PATHS, loan=task.loan, work=work_of(run, task))

    return lend


def work_of(run: Run, task: TaskRun) -> Work:
    """What a task's token says that it is for."""
    return Work(job_id=run.job_id, run_id=run.id, task_run_id=task.id)


def _context(run: Run, task: TaskRun) -> dict[str, str]:
    """What MLflow's client puts on each run that the script makes, so that it is found from the task."""
    tags = {JOB_RUN_TAG: str(run.id), TASK_RUN_TAG: str(task.id)} | ({JOB_TAG: str(run.job_id)} if run.job_id else {})
    return {"MLFLOW_RUN_CONTEXT": json.dumps(tags)}
