"""The room as `app.py` opens it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter

from millpond.catalog.files import Files
from millpond.identity.service import IdentityService
from millpond.jobs.room import JobsRoom
from millpond.kernel.database import Database
from millpond.kernel.settings import Settings
from millpond.notifications.service import DestinationService
from millpond.pipelines.routes import pipelines_router
from millpond.pipelines.service import PipelineService
from millpond.pipelines.sources import Sources
from millpond.pipelines.updates import UpdateRuns
from millpond.pipelines.viewing import PipelineViews
from millpond.secrets.references import References
from millpond.workspace.service import WorkspaceService


@dataclass(frozen=True, kw_only=True)
class PipelinesRoom:
    """The service for routes and pages, and the work to keep going."""

    service: PipelineService
    views: PipelineViews
    updates: UpdateRuns

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep continuous pipelines going while the block runs."""
        with self.updates.at_work():
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return pipelines_router(self.service)


def open_pipelines(
    database: Database,
    settings: Settings,
    *,
    files: Files,
    workspace: WorkspaceService,
    jobs: JobsRoom,
    destinations: DestinationService,
    references: References,
    identity: IdentityService,
) -> PipelinesRoom:
    """The room."""
    sources = Sources(code=jobs.code, files=files, workspace=workspace, references=references)
    service = PipelineService(
        database, references, check_target=destinations.check_target,
        principal_named=identity.active_principal, moved=jobs.runtime.moved,
    )  # fmt: skip
    updates = UpdateRuns(
        database, sources, principal_named=identity.active_principal, moved=jobs.runtime.moved,
        kept=timedelta(days=settings.jobs.keep_runs_days),
    )  # fmt: skip
    return PipelinesRoom(service=service, views=PipelineViews(service), updates=updates)
