"""The replay room, built: what `app.py` joins to the rest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import APIRouter

from millpond.catalog.service import CatalogService
from millpond.engine.sql_client import SqlClient
from millpond.identity.domain import Principal
from millpond.inference_tables.predictions import PredictionService
from millpond.kernel.database import Database
from millpond.kernel.work import Handler, Worker
from millpond.replay.recorded import RecordedRequests
from millpond.replay.routes import router
from millpond.replay.running import Runner
from millpond.replay.service import ATTEMPTS, WORK, ReplayService
from millpond.serving.room import ServingRoom


@dataclass(frozen=True, kw_only=True)
class ReplayRoom:
    """The service for routes, pages and gates, and the work to keep going."""

    service: ReplayService
    worker: Worker

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry replays out while the block runs, one at a time."""
        with self.worker.at_work():
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return router(self.service)


def open_replay(
    database: Database,
    catalog: CatalogService,
    *,
    serving: ServingRoom,
    predictions: PredictionService,
    sql: SqlClient,
    principal_named: Callable[[str], Principal],
) -> ReplayRoom:
    """The room."""
    service = ReplayService(
        database,
        catalog,
        serving=serving.service,
        rehearsals=serving.rehearsals,
        predictions=predictions,
        runner=Runner(RecordedRequests(sql), serving.rehearsals),
        principal_named=principal_named,
    )
    handler = Handler(run=service.run_item, attempts=ATTEMPTS, pause_s=3)
    return ReplayRoom(service=service, worker=Worker(database, {WORK: handler}))
