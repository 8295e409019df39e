"""The room as `app.py` opens it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import APIRouter

from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.work import Handler, Worker
from millpond.notifications.domain import Sealer
from millpond.notifications.mail import Mailer
from millpond.notifications.outbox import ATTEMPTS, WORK, Postman
from millpond.notifications.posting import Network
from millpond.notifications.routes import destinations_router
from millpond.notifications.service import DestinationService

_TIDY_S = 3600.0

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class NotificationsRoom:
    """The service for routes and other rooms, and the work to keep going."""

    service: DestinationService
    postman: Postman
    worker: Worker

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Make deliveries while the block runs."""
        tidied = rounds(self.postman.tidy, name="notices", interval_s=_TIDY_S, log=log, failure="old ones were kept")
        with tidied, self.worker.at_work():
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return destinations_router(self.service)


def open_notifications(
    database: Database,
    *,
    mailer: Mailer,
    sealer: Sealer,
    networks: Sequence[Network],
    base_url: str,
    workspace_id: int,
) -> NotificationsRoom:
    """The room on a database; `networks` are those besides the public ones to which messages may go."""
    postman = Postman(
        database=database,
        mailer=mailer,
        sealer=sealer,
        networks=tuple(networks),
        base_url=base_url,
        workspace_id=workspace_id,
    )
    worker = Worker(database, {WORK: Handler(run=postman.run_item, attempts=ATTEMPTS, threads=2)})
    service = DestinationService(database=database, mailer=mailer, sealer=sealer, networks=tuple(networks))
    return NotificationsRoom(service=service, postman=postman, worker=worker)
