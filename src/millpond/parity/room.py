"""The parity room, built: what `app.py` joins to the rest."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter

from millpond.catalog.service import CatalogService
from millpond.engine.sql_client import SqlClient
from millpond.feature_serving.service import FeatureServing
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.work import Handler, Worker
from millpond.online.room import OnlineRoom
from millpond.parity.replaying import Replayer
from millpond.parity.routes import parity_router
from millpond.parity.service import ATTEMPTS, WORK, ParityService
from millpond.parity.subjects import Subjects
from millpond.tracking.model_files import VersionFiles

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores


@dataclass(frozen=True, kw_only=True)
class ParityRoom:
    """The service for routes, pages and gates, and the work to keep going."""

    service: ParityService
    worker: Worker
    scratch: Path

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry checks out while the block runs."""
        shutil.rmtree(self.scratch, ignore_errors=True)  # what a server that was killed left behind
        with self.worker.at_work():
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return parity_router(self.service)


def open_parity(
    database: Database,
    catalog: CatalogService,
    *,
    features: FeatureServing,
    online: OnlineRoom,
    sql: SqlClient,
    stores: Callable[[], "Stores"],
    files: VersionFiles,
    principal_named: Callable[[str], Principal],
    scratch: Path,
) -> ParityRoom:
    """The room; `stores` and `files` are MLflow's, once it is loaded."""
    replayer = Replayer(
        catalog, features, online.tables, online.service, query=sql.rows, compute=sql.computed, scratch=scratch
    )
    subjects = Subjects(database, catalog, stores, files)
    service = ParityService(database, catalog, subjects, replayer, principal_named)
    handler = Handler(run=service.run_item, attempts=ATTEMPTS)
    return ParityRoom(service=service, worker=Worker(database, {WORK: handler}), scratch=scratch)
