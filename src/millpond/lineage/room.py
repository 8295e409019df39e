"""The room as `app.py` opens it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millpond.catalog.service import CatalogService
from millpond.kernel.database import Database
from millpond.kernel.settings import LineageSettings
from millpond.lineage.drain import LineageDrain, Read
from millpond.lineage.emission import Emitter
from millpond.lineage.external import ExternalLineage
from millpond.lineage.impact import Impact
from millpond.lineage.openlineage import OpenLineage
from millpond.lineage.service import LineageService
from millpond.lineage.uses import Uses


@dataclass(frozen=True, kw_only=True)
class LineageRoom:
    """Its services, and what works in the background."""

    lineage: LineageService
    impact: Impact
    uses: Uses
    external: ExternalLineage
    openlineage: OpenLineage
    drain: LineageDrain

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Take in and send out while the block runs."""
        with self.drain.at_work():
            yield


def open_lineage(
    database: Database, catalog: CatalogService, settings: LineageSettings, spools: Path, read: Callable[[], Read]
) -> LineageRoom:
    """The room; `read` gives what reads the gateways' notes, and is called when there are some."""
    lineage = LineageService(database, catalog)
    return LineageRoom(
        lineage=lineage,
        impact=Impact(database, lineage),
        uses=Uses(database, lineage),
        external=ExternalLineage(database, catalog, lineage),
        openlineage=OpenLineage(database, catalog),
        drain=LineageDrain(lineage, spools, read, Emitter(database, settings).run_once),
    )
