"""The inference tables' room, built: what `app.py` joins to the rest."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fastapi import APIRouter

from millpond.catalog.service import CatalogService
from millpond.engine.sql_client import SqlClient
from millpond.home import Home
from millpond.identity.domain import Principal
from millpond.inference_tables.captures import InferenceTables
from millpond.inference_tables.committer import Committer
from millpond.inference_tables.making import TableMaker
from millpond.inference_tables.payload_log import PayloadLog
from millpond.inference_tables.predictions import PredictionService
from millpond.inference_tables.routes import router
from millpond.inference_tables.viewing import Viewing
from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.settings import Settings
from millpond.lineage.service import LineageService
from millpond.serving.service import ServingService
from millpond.tracking.lineage import ModelLineage

log = get_logger(__name__)
_VIEWS_S = 2.0
_COMPACTING_S = 30.0


@dataclass(frozen=True, kw_only=True)
class InferenceTablesRoom:
    """What serving is given, the service for routes, and the work to keep going."""

    captures: InferenceTables
    service: PredictionService
    committer: Committer
    viewing: Viewing
    commit_interval_s: float

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Commit what was captured while the block runs, and the rest after it."""
        with ExitStack() as stack:
            for work, name, interval_s, last in (
                (self.committer.run_once, "payloads", self.commit_interval_s, True),
                (self.committer.compact, "payloads-compact", _COMPACTING_S, False),
                (self.viewing.run_once, "payloads-views", _VIEWS_S, False),
            ):
                failure = f"a round of {name} failed"
                stack.enter_context(rounds(work, name=name, interval_s=interval_s, log=log, failure=failure, last=last))
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return router(self.service)


def open_inference_tables(
    database: Database,
    catalog: CatalogService,
    settings: Settings,
    *,
    sql: SqlClient,
    serving: Callable[[], ServingService],
    lineage: Callable[[], LineageService],
    models: Callable[[], ModelLineage],
    principal_named: Callable[[str], Principal],
) -> InferenceTablesRoom:
    """The room; `serving`, `lineage` and `models` are there once the server is built."""
    own = settings.inference_tables
    payload_log = PayloadLog(Home(settings.data_dir).payloads, durable=own.durable)
    return InferenceTablesRoom(
        captures=InferenceTables(database, payload_log, TableMaker(catalog, settings.s3), own),
        service=PredictionService(
            database, catalog, payload_log, sql, serving=serving, lineage=lineage, models=models,
            limit_bytes=own.limit_bytes,
        ),
        committer=Committer(
            database, catalog, payload_log, settings.s3, principal_named=principal_named,
            compact_every=own.compact_every,
        ),
        viewing=Viewing(database, catalog, sql, serving, principal_named),
        commit_interval_s=own.commit_interval_s,
    )  # fmt: skip
