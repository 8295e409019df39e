"""The room as `app.py` opens it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter

from millpond.catalog.service import CatalogService
from millpond.home import Home
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.doors import Doors
from millpond.kernel.environments import Environments
from millpond.kernel.settings import Settings
from millpond.kernel.work import Handler, Worker
from millpond.reproduction.captures import Captures
from millpond.reproduction.keeping import LogKeeper
from millpond.reproduction.pins import PinService
from millpond.reproduction.routes import reproduction_router
from millpond.reproduction.service import ATTEMPTS, WORK, Limits, ReproductionService
from millpond.tracking.artifact_files import ArtifactFiles
from millpond.tracking.lineage import ModelLineage

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores


@dataclass(frozen=True, kw_only=True)
class ReproductionRoom:
    """The services for routes and pages, and the work to keep going."""

    captures: Captures
    service: ReproductionService
    pins: PinService
    worker: Worker

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Make runs again while the block runs."""
        self.service.tidy()
        with self.worker.at_work():
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return reproduction_router(self.captures, self.service, self.pins)


def open_reproduction(
    database: Database,
    settings: Settings,
    *,
    catalog: CatalogService,
    environments: Environments,
    stores: Callable[[], "Stores"],
    files: Callable[[], ArtifactFiles],
    models: ModelLineage,
    catch_up: Callable[[], object],
    identity: IdentityService,
) -> ReproductionRoom:
    """The room; `stores` and `files` are MLflow's, once it is loaded."""
    home, limits = Home(settings.data_dir), settings.reproduction
    captures = Captures(database, catalog, stores, files, settings.s3, catch_up)
    service = ReproductionService(
        database,
        captures,
        environments,
        doors=Doors(
            api_socket=home.api_socket,
            api_port=settings.port,
            spark_socket=home.spark_socket,
            spark_port=settings.spark_port,
        ),
        scratch=home.run / "reproduction",
        identity=identity,
        server=home.server_name(),
        limits=Limits(memory_bytes=limits.memory_limit_bytes, timeout_s=limits.timeout_s),
    )
    handler = Handler(run=service.run_item, attempts=ATTEMPTS, pause_s=5)
    pins = PinService(database, catalog, models)
    keeper = LogKeeper(database, catalog, settings.s3, catch_up)
    worker = Worker(database, {WORK: handler, **keeper.handlers()})
    return ReproductionRoom(captures=captures, service=service, pins=pins, worker=worker)
