"""The online room, built: what `app.py` joins to the rest."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import APIRouter

from millpond.billing.metering import Meter
from millpond.catalog.service import CatalogService
from millpond.home import Home
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.process import Child, ChildSpec, spawn
from millpond.kernel.settings import Settings
from millpond.lineage.domain import SeenNode
from millpond.online.costs import reads_of
from millpond.online.keeper import Keeper
from millpond.online.lineage import online_seer
from millpond.online.reading import OnlineTables
from millpond.online.routes import router
from millpond.online.service import OnlineService
from millpond.online.stores import Backends


@dataclass(frozen=True, kw_only=True)
class OnlineRoom:
    """The services, and the work to keep going."""

    service: OnlineService
    tables: OnlineTables
    backends: Backends
    keeper: Keeper
    see_nodes: Callable[[Principal, Sequence[SeenNode]], dict[str, SeenNode]]
    """Who may see online tables in lineage."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Publish while the block runs."""
        with self.keeper.at_work():
            yield
        self.backends.close()

    def router(self) -> APIRouter:
        """All routes."""
        return router(self.service, self.tables)


def open_online(database: Database, catalog: CatalogService, settings: Settings, meter: Meter) -> OnlineRoom:
    """The room on a database."""
    backends = Backends(Home(settings.data_dir).online, settings.online.stores)
    keeper = Keeper(database, lambda owner: _publisher(settings, owner))
    tables = OnlineTables(database, catalog, backends)
    meter.count(lambda: reads_of(tables))

    def tell() -> None:
        tables.forget()
        keeper.tell()

    return OnlineRoom(
        service=OnlineService(database, catalog, backends, settings.s3, tell),
        tables=tables,
        backends=backends,
        keeper=keeper,
        see_nodes=online_seer(database, catalog),
    )


def _publisher(settings: Settings, owner: str) -> Child:
    """Our own code over users' data: it has our environment, and a limit to its memory."""
    return spawn(
        ChildSpec(
            module="millpond.online.publisher_process",
            args=(owner,),
            env={"MILLPOND_DATA_DIR": str(settings.data_dir)},
            log_path=Home(settings.data_dir).logs / "publisher.log",
            memory_bytes=settings.online.publisher_memory_bytes,
            inherit_env=True,
        )
    )
