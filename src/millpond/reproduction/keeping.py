"""Logs of tables that models were trained on: a pinned version needs its part of the Delta log as much as its files.

Both engines, and other writers of Delta, remove what is older than the log's retention when they write a checkpoint,
unless the table says `delta.enableExpiredLogCleanup = false`. So a table says that from its first pin on.
"""

from collections.abc import Callable

from millpond.catalog.delta import storage_options
from millpond.catalog.domain import SYSTEM_CATALOG
from millpond.catalog.service import CatalogService
from millpond.identity.domain import SYSTEM
from millpond.kernel import work
from millpond.kernel.database import Database
from millpond.kernel.settings import S3Settings
from millpond.lineage.pins import PINNED, reads_of

_KEEP_LOG = "keep-log"
_ATTEMPTS = 8
"""The last about an hour and a half after the first: storage may be away."""


class LogKeeper:
    """Lets pinned tables keep their logs."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        s3: S3Settings,
        catch_up: Callable[[], object],
    ) -> None:
        """`catch_up` lets lineage take in what the gateways have noted."""
        self._database = database
        self._catalog = catalog
        self._s3 = s3
        self._catch_up = catch_up

    def handlers(self) -> dict[str, work.Handler]:
        """How the work is done that a pin asks for."""
        return {
            PINNED: work.Handler(run=self._pinned, attempts=_ATTEMPTS, pause_s=5),
            _KEEP_LOG: work.Handler(run=self._keep, attempts=_ATTEMPTS, pause_s=5),
        }

    def _pinned(self, item: work.Item) -> None:
        """A model version is new: one item for each table that its run has read."""
        self._catch_up()
        tables = {read.table_id for read in reads_of(self._database, item.payload["readers"])}
        with self._database.write() as connection:
            for table_id in sorted(tables):
                work.enqueue(connection, _KEEP_LOG, {"table": table_id})

    def _keep(self, item: work.Item) -> None:
        from millpond.engine.delta.alter import keep_log
        from millpond.engine.delta.table import Storage

        for table in self._catalog.find_tables_by_id(SYSTEM, [item.payload["table"]]).values():
            if table.data_source_format == "DELTA" and table.name.catalog != SYSTEM_CATALOG:
                location = table.storage_location
                keep_log(Storage(url=location, options=storage_options(location, self._s3) or {}))
