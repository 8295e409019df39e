"""The room as `app.py` opens it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import APIRouter

from millpond.billing.room import BillingRoom
from millpond.billing.usage import Sum, UsageService
from millpond.billing.wire import sums_json
from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.compute.job_clusters import JobClusters
from millpond.home import Home
from millpond.identity.domain import Principal
from millpond.identity.service import IdentityService
from millpond.jobs import store
from millpond.jobs.advancing import Advancer
from millpond.jobs.carrying import Carrier
from millpond.jobs.code import Code
from millpond.jobs.costs import TaskCosts
from millpond.jobs.domain import State
from millpond.jobs.git_sources import GitSources
from millpond.jobs.launching import Launcher, lender
from millpond.jobs.outputs import Outputs
from millpond.jobs.ports import Updates
from millpond.jobs.routes import jobs_router
from millpond.jobs.runtime import Runtime
from millpond.jobs.service import JobService
from millpond.jobs.sql_tasks import SqlTasks
from millpond.jobs.task_files import TaskFiles
from millpond.jobs.viewing import JobViews
from millpond.jobs.watcher import Watcher
from millpond.jobs.webhook_starts import WebhookStarts
from millpond.jobs.workers.routes import workers_router
from millpond.jobs.workers.service import SparkDoor, WorkerService
from millpond.kernel.database import Database
from millpond.kernel.doors import Doors
from millpond.kernel.environments import Environments
from millpond.kernel.http import join
from millpond.kernel.settings import Settings
from millpond.lineage.service import LineageService
from millpond.notifications.service import DestinationService
from millpond.sql.room import SqlRoom
from millpond.workspace.service import WorkspaceService


@dataclass(frozen=True, kw_only=True)
class JobsRoom:
    """The service for routes and pages, and the work to keep going."""

    service: JobService
    code: Code
    workers: WorkerService
    views: JobViews
    runtime: Runtime
    watcher: Watcher
    starts: WebhookStarts
    base_url: str
    database: Database
    usage: UsageService

    def usage_of(self, principal: Principal, run_id: int) -> Sequence[Sum]:
        """What a run that one may see has used so far, by SKU. Raises NotFound."""
        return self.usage.of_run(self.service.get_run(principal, run_id).run.id)

    def is_over(self, run_id: int) -> bool:
        """Whether a run has ended, or is gone."""
        with self.database.read() as connection:
            run = store.find_run(connection, run_id)
        return run is None or run.state is State.ENDED

    def job_of(self, run_id: int) -> int | None:
        """The job of a run, if it has one."""
        with self.database.read() as connection:
            return store.job_of(connection, run_id)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry jobs on, and watch for what starts them, while the block runs."""
        with self.runtime.at_work(), self.watcher.at_work():
            yield

    def _usage_json(self, principal: Principal, run_id: int) -> list[dict[str, Any]]:
        return sums_json(self.usage_of(principal, run_id), "sku")

    def router(self) -> APIRouter:
        """All routes."""
        router = jobs_router(self.service, self.views, self._usage_json, base_url=self.base_url)
        join(router, workers_router(self.workers))
        return router


def open_jobs(
    database: Database,
    settings: Settings,
    *,
    catalog: CatalogService,
    files: Files,
    workspace: WorkspaceService,
    sql: SqlRoom,
    environments: Environments,
    clusters: JobClusters,
    billing: BillingRoom,
    doors: Doors,
    destinations: DestinationService,
    lineage: LineageService,
    identity: IdentityService,
    updates: Callable[[], Updates],
) -> JobsRoom:
    """The room."""
    principal_named = identity.active_principal
    costs = TaskCosts(database, billing.meter, billing.quotas, principal_named)
    code = Code(files, workspace, GitSources(settings.jobs.git_sources, _pin(database)), updates)
    task_files, server = TaskFiles(settings.data_dir), Home(settings.data_dir).server_name()
    launcher = Launcher(
        files=task_files,
        carrier=Carrier(task_files, environments, doors, settings.data_dir / "logs" / "jobs.log"),
        server=server, settings=settings.jobs, code=code, sql=SqlTasks(sql, code),
        clusters=clusters, costs=costs, lend=lender(identity), principal_named=principal_named,
    )  # fmt: skip
    outputs = Outputs(database, task_files, server)
    runtime = Runtime(
        database, Advancer(database, principal_named, updates), launcher, outputs, costs,
        at_once=settings.jobs.tasks_at_once, kept=timedelta(days=settings.jobs.keep_runs_days),
    )  # fmt: skip
    watcher = Watcher(
        database=database, files=files, catalog=catalog, s3=settings.s3, principal_named=principal_named,
        moved=runtime.moved, poll=timedelta(seconds=settings.jobs.trigger_poll_s),
    )  # fmt: skip
    service = JobService(
        database,
        outputs,
        watcher=watcher,
        costs=costs,
        check_target=destinations.check_target,
        check_cluster=clusters.check,
        moved=runtime.moved,
        principal_named=principal_named,
    )
    views = JobViews(database, service, outputs, lineage)
    starts = WebhookStarts(
        service=service,
        principal_of=lambda token: identity.authenticate(token, path="/api/2.2/jobs/run-now", method="POST"),
    )
    workers = WorkerService(
        database, launcher, runtime, lease=timedelta(seconds=settings.jobs.worker_lease_s),
        spark=SparkDoor(port=settings.spark_port, tls=settings.certificate is not None),
    )  # fmt: skip
    return JobsRoom(
        service=service,
        code=code,
        workers=workers,
        views=views,
        runtime=runtime,
        watcher=watcher,
        starts=starts,
        base_url=settings.base_url,
        database=database,
        usage=billing.usage,
    )


def _pin(database: Database) -> Callable[[int, str], str]:
    def pin(run_id: int, commit: str) -> str:
        with database.write() as connection:
            return store.pin(connection, run_id, commit)

    return pin
